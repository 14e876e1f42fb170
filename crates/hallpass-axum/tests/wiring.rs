//! Forgetting to wire the guard does not compile, and the compiler says what to do.

use std::process::Command;

/// Compilers differ in their words. On another one the doctest in `lib.rs` alone shows that it does not compile.
const WORDS_OF: &str = "rustc 1.95.";

#[test]
fn row_7_a_router_without_a_guard_does_not_compile() {
    let version = Command::new("rustc").arg("--version").output().unwrap().stdout;
    if !version.starts_with(WORDS_OF.as_bytes()) {
        println!("skipped: the expected messages are those of {WORDS_OF}x");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
