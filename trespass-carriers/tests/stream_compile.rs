//! A stream over a track that may lose messages does not compile, and the compiler says why.

#[test]
fn a_stream_over_datagrams_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile/*.rs");
}
