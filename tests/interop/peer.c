/* A peer that knows nothing of trespass but what its documentation says: plain libibverbs and librdmacm. The tests of
 * verbs_interop_c.rs start it, and build it too.
 *
 *   peer listen LOCAL              waits for a connection, then obeys
 *   peer connect LOCAL PEER PORT   connects, then obeys
 *   peer answer LOCAL              lets itself be found by whoever looks for datagrams, and echoes those
 *   peer track LOCAL PEER PORT     asks the listener there for a track of datagrams, and has it echo some
 *   peer find LOCAL PEER PORT      looks for the port there, and has it echo some
 *
 * Who listens prints "port N". To obey is to do what each message says; see `obey`. All numbers are little-endian, as on
 * every machine that this runs on.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS = 16, SLOT = 8192, LENT = 4096, DEPTH = 4, GRH = 40, DATA = 48, DEADLINE = 60 };
enum { WANTS_PORT = 1, WANTS_TRACK = 2, PORT_KEY = 0x54725564, TRACK_KEY = 0x1234567 };

/* What the peer gets of a window of trespass: RemoteWindow::encode. */
struct window {
    uint8_t version, writable, zero[2];
    uint32_t key;
    uint64_t start, len;
};

struct order {
    uint8_t what, zero[7];
    struct window window;
    uint64_t offset, a, b;
};

/* What two ports tell each other before the first datagram. */
struct hello {
    uint8_t magic[4], version, wanted, zero[2];
    uint32_t number, key, mtu, attempt;
    uint64_t nonce;
    uint8_t rest[16];
};

_Static_assert(sizeof(struct window) == 24 && sizeof(struct order) == 56 && sizeof(struct hello) == DATA, "no padding");

static struct rdma_event_channel *channel;
static struct ibv_comp_channel *completions;
static struct ibv_cq *sends, *receives;
static struct ibv_qp *qp;
static struct ibv_mr *mr;
/* Receive slots, then one to send from, then what is lent to the peer. */
static uint8_t memory[(SLOTS + 1) * SLOT + LENT] __attribute__((aligned(4096)));
static uint8_t *const out = memory + SLOTS * SLOT, *const lent = memory + (SLOTS + 1) * SLOT;

static void check(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "peer: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static int is_done(struct ibv_cq *cq, struct ibv_wc *wc) {
    int n = ibv_poll_cq(cq, 1, wc);
    check(n >= 0, "ibv_poll_cq");
    return n;
}

static void arm(struct ibv_cq *cq) {
    check(ibv_req_notify_cq(cq, 0) == 0, "ibv_req_notify_cq");
}

/* Sleeps until something may have completed. */
static void sleep_on_completions(void) {
    struct ibv_cq *cq;
    void *context;
    check(ibv_get_cq_event(completions, &cq, &context) == 0, "ibv_get_cq_event");
    ibv_ack_cq_events(cq, 1);
}

static struct ibv_wc next(struct ibv_cq *cq) {
    struct ibv_wc wc;
    for (int armed = 0; !is_done(cq, &wc); armed = !armed) {
        /* What completed before it was armed gives no event. */
        if (armed)
            sleep_on_completions();
        else
            arm(cq);
    }
    return wc;
}

static void post_receive(uint64_t slot) {
    struct ibv_sge sge = {.addr = (uintptr_t)(memory + slot * SLOT), .length = SLOT, .lkey = mr->lkey};
    struct ibv_recv_wr wr = {.wr_id = slot, .sg_list = &sge, .num_sge = 1}, *bad;
    check(ibv_post_recv(qp, &wr, &bad) == 0, "ibv_post_recv");
}

/* Queues, memory and receives. The connection manager brings up what is connected; datagrams have `key`. */
static void build(struct rdma_cm_id *id, enum ibv_qp_type type, uint32_t key) {
    struct ibv_pd *pd = ibv_alloc_pd(id->verbs);
    check(pd != NULL, "ibv_alloc_pd");
    completions = ibv_create_comp_channel(id->verbs);
    check(completions != NULL, "ibv_create_comp_channel");
    sends = ibv_create_cq(id->verbs, 4, NULL, completions, 0);
    receives = ibv_create_cq(id->verbs, SLOTS, NULL, completions, 0);
    check(sends && receives, "ibv_create_cq");
    int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
    mr = ibv_reg_mr(pd, memory, sizeof memory, access);
    check(mr != NULL, "ibv_reg_mr");
    struct ibv_qp_init_attr init = {
        .send_cq = sends, .recv_cq = receives, .qp_type = type, .sq_sig_all = 1,
        .cap = {.max_send_wr = 4, .max_recv_wr = SLOTS, .max_send_sge = 1, .max_recv_sge = 1}};
    if (type == IBV_QPT_RC) {
        check(rdma_create_qp(id, pd, &init) == 0, "rdma_create_qp");
        qp = id->qp;
    } else {
        qp = ibv_create_qp(pd, &init);
        check(qp != NULL, "ibv_create_qp");
        struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = id->port_num, .qkey = key};
        int first = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY;
        check(ibv_modify_qp(qp, &attr, first) == 0, "to INIT");
        attr.qp_state = IBV_QPS_RTR;
        check(ibv_modify_qp(qp, &attr, IBV_QP_STATE) == 0, "to RTR");
        attr.qp_state = IBV_QPS_RTS;
        check(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN) == 0, "to RTS");
    }
    for (int i = 0; i < LENT; i++)
        lent[i] = (uint8_t)(i * 7 + 3);
    for (uint64_t slot = 0; slot < SLOTS; slot++)
        post_receive(slot);
}

/* Posts `wr` with `len` bytes at `out`, and waits until it is done. What the peer's device refuses ends this program. */
static void post(struct ibv_send_wr *wr, uint32_t len) {
    struct ibv_sge sge = {.addr = (uintptr_t)out, .length = len, .lkey = mr->lkey};
    struct ibv_send_wr *bad;
    wr->sg_list = &sge;
    wr->num_sge = len > 0;
    check(ibv_post_send(qp, wr, &bad) == 0, "ibv_post_send");
    struct ibv_wc wc = next(sends);
    if (wc.status != IBV_WC_SUCCESS) {
        printf("status %d\n", wc.status);
        exit(3);
    }
}

static void reply(uint32_t len) {
    struct ibv_send_wr wr = {.opcode = IBV_WR_SEND};
    post(&wr, len);
}

/* Does what a message says, without looking whether it may: that is for the peer's device to say.
 *   e  the same message back (and so is one of no bytes)
 *   w  what is lent here: address, length and key
 *   s  what is in the memory that is lent, as a message
 *   r  reads `a` bytes at `offset` in the window, and gives them back
 *   W  writes `a` bytes there, of which number i is i * `b` + 1, and says so
 *   c  puts `b` there if it is `a`, and gives back what it was
 *   f  adds `a` there, and gives back what it was
 *   q  goes away
 */
static int obey(const uint8_t *message, uint32_t len) {
    struct order order = {.what = 'e'};
    struct ibv_send_wr wr = {0};
    if (len > 0)
        order.what = message[0];
    if (len == sizeof order)
        memcpy(&order, message, sizeof order);
    uint64_t address = order.window.start + order.offset;
    uint32_t size = (uint32_t)order.a < SLOT ? (uint32_t)order.a : SLOT;
    wr.wr.rdma.remote_addr = address;
    wr.wr.rdma.rkey = order.window.key;
    switch (order.what) {
    case 'e':
        memcpy(out, message, len);
        reply(len);
        return 1;
    case 'w':
        memcpy(out, &(uint64_t[]){(uintptr_t)lent, LENT, mr->rkey}, 24);
        reply(24);
        return 1;
    case 's':
        memcpy(out, lent, LENT);
        reply(LENT);
        return 1;
    case 'r':
        wr.opcode = IBV_WR_RDMA_READ;
        post(&wr, size);
        reply(size);
        return 1;
    case 'W':
        for (uint32_t i = 0; i < size; i++)
            out[i] = (uint8_t)(i * order.b + 1);
        wr.opcode = IBV_WR_RDMA_WRITE;
        post(&wr, size);
        reply(1);
        return 1;
    case 'c':
    case 'f':
        wr.opcode = order.what == 'c' ? IBV_WR_ATOMIC_CMP_AND_SWP : IBV_WR_ATOMIC_FETCH_AND_ADD;
        wr.wr.atomic.remote_addr = address;
        wr.wr.atomic.rkey = order.window.key;
        wr.wr.atomic.compare_add = order.a;
        wr.wr.atomic.swap = order.b;
        post(&wr, 8);
        reply(8);
        return 1;
    default:
        return 0;
    }
}

static void obey_all(void) {
    for (int more = 1; more;) {
        struct ibv_wc wc = next(receives);
        check(wc.status == IBV_WC_SUCCESS, "a receive");
        more = obey(memory + wc.wr_id * SLOT, wc.byte_len);
        post_receive(wc.wr_id);
    }
}

/* The next event, which has to be this one. */
static struct rdma_cm_event *await(enum rdma_cm_event_type type) {
    struct rdma_cm_event *event;
    check(rdma_get_cm_event(channel, &event) == 0, "rdma_get_cm_event");
    if (event->event != type) {
        fprintf(stderr, "peer: %s, status %d\n", rdma_event_str(event->event), event->status);
        exit(1);
    }
    return event;
}

static struct sockaddr_in addr_of(const char *ip, const char *port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    check(inet_pton(AF_INET, ip, &addr.sin_addr) == 1, "an IPv4 address");
    return addr;
}

static struct rdma_cm_id *listening(const char *local, enum rdma_port_space space) {
    struct rdma_cm_id *id;
    struct sockaddr_in addr = addr_of(local, "0");
    check(rdma_create_id(channel, &id, NULL, space) == 0, "rdma_create_id");
    check(rdma_bind_addr(id, (struct sockaddr *)&addr) == 0, "rdma_bind_addr");
    check(rdma_listen(id, 8) == 0, "rdma_listen");
    printf("port %d\n", ntohs(rdma_get_src_port(id)));
    return id;
}

/* The way to the peer. A neighbour that answers while it is asked is missed: short tries, many of them. */
static struct rdma_cm_id *resolved(char **argv, enum rdma_port_space space) {
    struct rdma_cm_id *id;
    struct rdma_cm_event *event;
    struct sockaddr_in from = addr_of(argv[0], "0"), to = addr_of(argv[1], argv[2]);
    check(rdma_create_id(channel, &id, NULL, space) == 0, "rdma_create_id");
    for (int found = 0; !found;) {
        int asked = rdma_resolve_addr(id, (struct sockaddr *)&from, (struct sockaddr *)&to, 50);
        check(asked == 0, "rdma_resolve_addr");
        check(rdma_get_cm_event(channel, &event) == 0, "rdma_get_cm_event");
        found = event->event == RDMA_CM_EVENT_ADDR_RESOLVED;
        errno = -event->status;
        check(found || event->event == RDMA_CM_EVENT_ADDR_ERROR, "an address that is found");
        rdma_ack_cm_event(event);
    }
    check(rdma_resolve_route(id, 2000) == 0, "rdma_resolve_route");
    rdma_ack_cm_event(await(RDMA_CM_EVENT_ROUTE_RESOLVED));
    return id;
}

static const struct rdma_conn_param connection = {
    .responder_resources = DEPTH, .initiator_depth = DEPTH, .retry_count = 6, .rnr_retry_count = 7};

static void converse(struct rdma_cm_id *id) {
    rdma_ack_cm_event(await(RDMA_CM_EVENT_ESTABLISHED));
    obey_all();
    check(rdma_disconnect(id) == 0, "rdma_disconnect");
    rdma_ack_cm_event(await(RDMA_CM_EVENT_DISCONNECTED));
}

static void listen_for_one(const char *local) {
    struct rdma_conn_param param = connection;
    listening(local, RDMA_PS_TCP);
    struct rdma_cm_event *event = await(RDMA_CM_EVENT_CONNECT_REQUEST);
    struct rdma_cm_id *id = event->id;
    rdma_ack_cm_event(event);
    build(id, IBV_QPT_RC, 0);
    check(rdma_accept(id, &param) == 0, "rdma_accept");
    converse(id);
}

static void connect_to(char **argv) {
    struct rdma_conn_param param = connection;
    struct rdma_cm_id *id = resolved(argv, RDMA_PS_TCP);
    build(id, IBV_QPT_RC, 0);
    check(rdma_connect(id, &param) == 0, "rdma_connect");
    converse(id);
}

static uint32_t mtu_of(struct rdma_cm_id *id) {
    struct ibv_port_attr attr;
    check(ibv_query_port(id->verbs, id->port_num, &attr) == 0, "ibv_query_port");
    return 128u << attr.active_mtu;
}

/* The hello in the private data of an event, if it is one. */
static int is_hello(const struct rdma_cm_event *event, struct hello *hello) {
    if (event->param.ud.private_data_len < sizeof *hello)
        return 0;
    memcpy(hello, event->param.ud.private_data, sizeof *hello);
    return memcmp(hello->magic, "trUD", 4) == 0 && hello->version == 1;
}

static void send_datagram(struct ibv_ah *ah, uint32_t number, uint32_t key, uint32_t len) {
    struct ibv_send_wr wr = {.opcode = IBV_WR_SEND};
    wr.wr.ud.ah = ah;
    wr.wr.ud.remote_qpn = number;
    wr.wr.ud.remote_qkey = key;
    post(&wr, len);
}

/* Answers a request, if there is one: the same hello, with what is here. */
static void answer_requests(struct hello *hello) {
    struct rdma_cm_event *event;
    if (rdma_get_cm_event(channel, &event) != 0) {
        check(errno == EAGAIN, "rdma_get_cm_event");
        return;
    }
    if (event->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
        struct hello answer;
        check(is_hello(event, hello), "a hello");
        answer = *hello;
        answer.number = qp->qp_num;
        answer.key = hello->wanted == WANTS_PORT ? PORT_KEY : TRACK_KEY;
        answer.mtu = mtu_of(event->id);
        struct ibv_qp_attr attr = {.qkey = answer.key};
        check(ibv_modify_qp(qp, &attr, IBV_QP_QKEY) == 0, "a key");
        struct rdma_conn_param param = {
            .qp_num = qp->qp_num, .private_data = &answer, .private_data_len = sizeof answer};
        check(rdma_accept(event->id, &param) == 0, "rdma_accept");
    }
    rdma_ack_cm_event(event);
}

/* Sleeps until there is a request, or something may have completed. */
static void sleep_on_both(void) {
    struct pollfd both[] = {{.fd = channel->fd, .events = POLLIN}, {.fd = completions->fd, .events = POLLIN}};
    check(poll(both, 2, -1) > 0, "poll");
    if (both[1].revents != 0)
        sleep_on_completions();
}

/* Echoes datagrams, up to one that says "q". Whoever looks for a port has the key of all ports. */
static void answer(const char *local) {
    struct rdma_cm_id *id = listening(local, RDMA_PS_UDP);
    struct hello hello = {0};
    struct ibv_wc wc;
    int armed = 0;
    build(id, IBV_QPT_UD, PORT_KEY);
    check(fcntl(channel->fd, F_SETFL, O_NONBLOCK) == 0, "fcntl");
    for (int more = 1; more;) {
        answer_requests(&hello);
        if (!is_done(receives, &wc)) {
            if (!armed)
                arm(receives);
            else
                sleep_on_both();
            armed = !armed;
            continue;
        }
        check(wc.status == IBV_WC_SUCCESS && wc.byte_len >= GRH, "a datagram");
        uint8_t *slot = memory + wc.wr_id * SLOT;
        uint32_t len = wc.byte_len - GRH;
        struct ibv_ah *ah = ibv_create_ah_from_wc(qp->pd, &wc, (struct ibv_grh *)slot, id->port_num);
        check(ah != NULL, "ibv_create_ah_from_wc");
        memcpy(out, slot + GRH, len);
        send_datagram(ah, wc.src_qp, hello.wanted == WANTS_PORT ? PORT_KEY : hello.key, len);
        check(ibv_destroy_ah(ah) == 0, "ibv_destroy_ah");
        more = len != 1 || slot[GRH] != 'q';
        post_receive(wc.wr_id);
    }
}

/* Asks for a track or a port, sends some datagrams, and compares what comes back. */
static void ask(char **argv, uint8_t wanted) {
    struct rdma_cm_id *id = resolved(argv, RDMA_PS_UDP);
    uint32_t key = wanted == WANTS_PORT ? PORT_KEY : TRACK_KEY;
    build(id, IBV_QPT_UD, key);
    struct hello hello = {.magic = "trUD", .version = 1, .wanted = wanted, .mtu = mtu_of(id), .nonce = (uint64_t)getpid()};
    if (wanted == WANTS_TRACK) {
        hello.number = qp->qp_num;
        hello.key = key;
    }
    struct rdma_conn_param param = {.qp_num = qp->qp_num, .private_data = &hello, .private_data_len = sizeof hello};
    check(rdma_connect(id, &param) == 0, "rdma_connect");

    struct rdma_cm_event *event = await(RDMA_CM_EVENT_ESTABLISHED);
    struct hello answer;
    check(is_hello(event, &answer) && answer.nonce == hello.nonce, "an answer to this");
    struct ibv_ah *ah = ibv_create_ah(qp->pd, &event->param.ud.ah_attr);
    check(ah != NULL, "ibv_create_ah");
    rdma_ack_cm_event(event);

    uint32_t most = answer.mtu < hello.mtu ? answer.mtu : hello.mtu, lens[] = {0, 1, 40, 256, 257, 1000, most};
    for (uint32_t round = 0; round < 70; round++) {
        uint32_t len = lens[round % 7];
        for (uint32_t i = 0; i < len; i++)
            out[i] = (uint8_t)(i * 31 + round);
        send_datagram(ah, answer.number, answer.key, len);
        struct ibv_wc wc = next(receives);
        errno = 0;
        check(wc.status == IBV_WC_SUCCESS && wc.byte_len == len + GRH, "an echo as long as the datagram");
        check(memcmp(memory + wc.wr_id * SLOT + GRH, out, len) == 0, "an echo that is what was sent");
        post_receive(wc.wr_id);
    }
    printf("echoed up to %u\n", most);
}

int main(int argc, char **argv) {
    const char *mode = argc > 2 ? argv[1] : "";
    /* Whatever hangs ends. */
    alarm(DEADLINE);
    setvbuf(stdout, NULL, _IOLBF, 0);
    channel = rdma_create_event_channel();
    check(channel != NULL, "rdma_create_event_channel");
    if (strcmp(mode, "listen") == 0)
        listen_for_one(argv[2]);
    else if (strcmp(mode, "answer") == 0)
        answer(argv[2]);
    else if (strcmp(mode, "connect") == 0 && argc == 5)
        connect_to(argv + 2);
    else if (strcmp(mode, "track") == 0 && argc == 5)
        ask(argv + 2, WANTS_TRACK);
    else if (strcmp(mode, "find") == 0 && argc == 5)
        ask(argv + 2, WANTS_PORT);
    else {
        fprintf(stderr, "usage: %s listen|answer LOCAL, or connect|track|find LOCAL PEER PORT\n", argv[0]);
        return 2;
    }
    return 0;
}
