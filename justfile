# Thin names for what people run often. Each is one command you could type yourself.

# Everything that has to be green
test:
    scripts/test

# One crate's tests, quickly: just t hallpass
t crate:
    cargo test -p {{crate}}

# The benchmarks, as ratios
bench:
    scripts/bench

# The service, on 127.0.0.1:7700
serve:
    cargo run --release -- serve

# Ten minutes of fuzzing one target: just fuzz header
fuzz target:
    cargo fuzz run --sanitizer none {{target}} -- -max_total_time=600
