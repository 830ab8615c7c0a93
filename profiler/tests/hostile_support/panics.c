/* A library that has, alone on its page, what Rust's panics begin with. */
__attribute__((aligned(4096))) void rust_panic(void) {}
__attribute__((aligned(4096))) void on_the_next_page(void) {}
