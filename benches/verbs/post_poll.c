/* What `scripts/bench-verbs` compares CPU time with: the least that a C program can do to send messages one way over
 * verbs. It posts a window of sends, polls, and posts again; the other end polls and posts receives again. No waiting, no
 * abstraction, no error recovery.
 *
 *   post_poll server ADDR PORT SIZE COUNT BATCH WINDOW RECEIVES
 *   post_poll client ADDR PORT SIZE COUNT BATCH WINDOW RECEIVES
 *
 * BATCH sends go with one doorbell, and the last of them asks for a completion: as a flush of ours does.
 */
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { POLL = 16, REPOST = 32 };

static void check(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static uint64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int alone; /* On one CPU the other end needs it while this one spins. */

static struct ibv_cq *cq_send, *cq_recv;
static struct rdma_cm_id *id;
static struct ibv_mr *mr;
static char *memory;
static uint32_t size, receives;
static struct ibv_recv_wr *recv_wr;
static struct ibv_sge *recv_sge;

static int poll_some(struct ibv_cq *cq, struct ibv_wc *wc) {
    int n = ibv_poll_cq(cq, POLL, wc);
    check(n >= 0, "ibv_poll_cq");
    for (int i = 0; i < n; i++) {
        if (wc[i].status != IBV_WC_SUCCESS) {
            fprintf(stderr, "completion: %s\n", ibv_wc_status_str(wc[i].status));
            exit(1);
        }
    }
    if (n == 0 && alone)
        sched_yield();
    return n;
}

/* Posts the receives of `slots`. */
static void post_receives(const uint32_t *slots, uint32_t n) {
    struct ibv_recv_wr *bad;
    for (uint32_t i = 0; i < n; i++)
        recv_wr[slots[i]].next = i + 1 < n ? &recv_wr[slots[i + 1]] : NULL;
    check(ibv_post_recv(id->qp, &recv_wr[slots[0]], &bad) == 0, "ibv_post_recv");
}

/* Receives `count` messages. */
static void drain(uint64_t count) {
    struct ibv_wc wc[POLL];
    uint32_t back[REPOST + POLL], n = 0;
    while (count > 0) {
        int got = poll_some(cq_recv, wc);
        for (int i = 0; i < got; i++)
            back[n++] = (uint32_t)wc[i].wr_id;
        count -= (uint64_t)got;
        if (n >= REPOST || n >= receives / 2) {
            post_receives(back, n);
            n = 0;
        }
    }
    if (n > 0)
        post_receives(back, n);
}

/* Sends `count` messages, at most `window` at once, and waits until all have arrived. */
static void pour(uint64_t count, uint32_t batch, uint32_t window) {
    struct ibv_send_wr *wr = calloc(batch, sizeof *wr), *bad;
    struct ibv_sge *sge = calloc(batch, sizeof *sge);
    struct ibv_wc wc[POLL];
    uint64_t posted = 0, done = 0;
    check(wr && sge, "calloc");
    while (done < count) {
        while (posted < count && posted - done + batch <= window) {
            uint32_t n = count - posted < batch ? (uint32_t)(count - posted) : batch;
            for (uint32_t i = 0; i < n; i++) {
                char *message = memory + (size_t)((posted + i) % window) * size;
                uint64_t number = posted + i;
                memcpy(message, &number, sizeof number);
                sge[i] = (struct ibv_sge){.addr = (uintptr_t)message, .length = size, .lkey = mr->lkey};
                wr[i] = (struct ibv_send_wr){.wr_id = posted + i + 1, .sg_list = &sge[i], .num_sge = 1,
                                             .opcode = IBV_WR_SEND, .next = i + 1 < n ? &wr[i + 1] : NULL,
                                             .send_flags = size <= 64 ? IBV_SEND_INLINE : 0};
            }
            wr[n - 1].send_flags |= IBV_SEND_SIGNALED;
            check(ibv_post_send(id->qp, wr, &bad) == 0, "ibv_post_send");
            posted += n;
        }
        int got = poll_some(cq_send, wc);
        if (got > 0)
            done = wc[got - 1].wr_id;
    }
    free(wr);
    free(sge);
}

/* Queues, memory and receives of the connection `id`. */
static void build(uint32_t window) {
    cq_send = ibv_create_cq(id->verbs, (int)window + 1, NULL, NULL, 0);
    cq_recv = ibv_create_cq(id->verbs, (int)receives + 1, NULL, NULL, 0);
    check(cq_send && cq_recv, "ibv_create_cq");
    struct ibv_qp_init_attr attr = {
        .send_cq = cq_send, .recv_cq = cq_recv, .qp_type = IBV_QPT_RC,
        .cap = {.max_send_wr = window, .max_recv_wr = receives, .max_send_sge = 1, .max_recv_sge = 1,
                .max_inline_data = 64}};
    check(rdma_create_qp(id, NULL, &attr) == 0, "rdma_create_qp");

    size_t slots = (size_t)window + receives;
    memory = calloc(slots, size);
    check(memory != NULL, "calloc");
    mr = ibv_reg_mr(id->pd, memory, slots * size, IBV_ACCESS_LOCAL_WRITE);
    check(mr != NULL, "ibv_reg_mr");

    recv_wr = calloc(receives, sizeof *recv_wr);
    recv_sge = calloc(receives, sizeof *recv_sge);
    uint32_t *all = calloc(receives, sizeof *all);
    check(recv_wr && recv_sge && all, "calloc");
    for (uint32_t i = 0; i < receives; i++) {
        recv_sge[i] = (struct ibv_sge){
            .addr = (uintptr_t)(memory + ((size_t)window + i) * size), .length = size, .lkey = mr->lkey};
        recv_wr[i] = (struct ibv_recv_wr){.wr_id = i, .sg_list = &recv_sge[i], .num_sge = 1};
        all[i] = i;
    }
    post_receives(all, receives);
    free(all);
}

/* rdma_cm leaves this at 655 ms, which one stall would make the whole result. */
static void shorten_stalls(void) {
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS, .min_rnr_timer = 12};
    check(ibv_modify_qp(id->qp, &attr, IBV_QP_STATE | IBV_QP_MIN_RNR_TIMER) == 0, "ibv_modify_qp");
}

int main(int argc, char **argv) {
    if (argc != 9) {
        fprintf(stderr, "usage: %s server|client ADDR PORT SIZE COUNT BATCH WINDOW RECEIVES\n", argv[0]);
        return 2;
    }
    int server = strcmp(argv[1], "server") == 0;
    uint64_t count = strtoull(argv[5], NULL, 10), warmup = count / 10;
    uint32_t batch = (uint32_t)atoi(argv[6]), window = (uint32_t)atoi(argv[7]);
    size = (uint32_t)atoi(argv[4]);
    receives = (uint32_t)atoi(argv[8]);
    alone = sysconf(_SC_NPROCESSORS_ONLN) == 1;

    struct rdma_addrinfo hints = {.ai_port_space = RDMA_PS_TCP, .ai_flags = server ? RAI_PASSIVE : 0}, *where;
    check(rdma_getaddrinfo(argv[2], argv[3], &hints, &where) == 0, "rdma_getaddrinfo");
    struct rdma_conn_param param = {.rnr_retry_count = 7, .retry_count = 6};
    if (server) {
        struct rdma_cm_id *listener;
        check(rdma_create_ep(&listener, where, NULL, NULL) == 0, "rdma_create_ep");
        check(rdma_listen(listener, 1) == 0, "rdma_listen");
        puts("listening");
        fflush(stdout);
        check(rdma_get_request(listener, &id) == 0, "rdma_get_request");
        build(window);
        check(rdma_accept(id, &param) == 0, "rdma_accept");
    } else {
        check(rdma_create_ep(&id, where, NULL, NULL) == 0, "rdma_create_ep");
        build(window);
        check(rdma_connect(id, &param) == 0, "rdma_connect");
    }
    shorten_stalls();

    uint64_t elapsed, cpu;
    for (int counted = 0; counted < 2; counted++) {
        uint64_t n = counted ? count : warmup;
        elapsed = now(CLOCK_MONOTONIC);
        cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        /* The last word is the receiver's, as with ours. */
        if (server) {
            drain(n);
            pour(1, 1, window);
        } else {
            pour(n, batch, window);
            drain(1);
        }
        elapsed = now(CLOCK_MONOTONIC) - elapsed;
        cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    }
    printf("{\"messages\": %llu, \"elapsed_ns\": %llu, \"cpu_ns\": %llu}\n", (unsigned long long)count,
           (unsigned long long)elapsed, (unsigned long long)cpu);
    rdma_disconnect(id);
    return 0;
}
