//! Every byte everywhere, and whatever else may come.

use std::sync::LazyLock;

use axum::Router;
use http::{HeaderValue, StatusCode};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::{House, ask, request};

#[tokio::test]
async fn row_7_every_byte_value_at_every_position_of_the_header_is_refused_or_means_the_same() {
    let house = House::new().await;
    let app = house.me();
    let good = house.header(["*"]).await.into_bytes();
    let scheme = "Bearer".len();
    let before = house.store.calls();

    let (mut refused, mut same) = (0, Vec::new());
    for position in 0..good.len() {
        for byte in 0..=u8::MAX {
            let mut header = good.clone();
            header[position] = byte;
            if HeaderValue::from_bytes(&header).is_err() {
                continue;
            }
            if header == good || position < scheme && header.eq_ignore_ascii_case(&good) {
                same.push(header);
                continue;
            }
            let status = ask(&app, request("/me", [&header])).await.status.as_u16();
            assert!(matches!(status, 400 | 401), "{status} for byte {byte} at {position}");
            refused += 1;
        }
    }
    assert_eq!(house.store.calls(), before, "one changed byte is always seen without a look-up");
    assert!(refused > 13_000, "only {refused}");

    // Each position had the good value once, and each letter of the scheme its other case.
    assert_eq!(same.len(), good.len() + scheme);
    for header in same {
        assert_eq!(ask(&app, request("/me", [&header])).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn every_byte_value_put_in_before_or_after_is_refused_but_blanks() {
    let house = House::new().await;
    let app = house.me();
    let good = house.header(["*"]).await.into_bytes();
    for position in 0..=good.len() {
        for byte in 0..=u8::MAX {
            let mut header = good.clone();
            header.insert(position, byte);
            if HeaderValue::from_bytes(&header).is_err() {
                continue;
            }
            let status = ask(&app, request("/me", [&header])).await.status.as_u16();
            let around = position == 0 || position == good.len();
            let between = position == "Bearer".len() || position == "Bearer ".len();
            if around && matches!(byte, b' ' | b'\t') || between && byte == b' ' {
                assert_eq!(status, 200, "byte {byte} at {position}");
            } else {
                assert!(matches!(status, 400 | 401), "{status} for byte {byte} at {position}");
            }
        }
    }
}

/// One application for all cases.
static APP: LazyLock<(Runtime, Router, String)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let house = runtime.block_on(House::new());
    let token = runtime.block_on(house.token(["*"]));
    (runtime, house.me(), token)
});

fn status(headers: &[Vec<u8>]) -> u16 {
    let (runtime, app, _) = &*APP;
    let mut asked = request("/me", []);
    for header in headers {
        if let Ok(value) = HeaderValue::from_bytes(header) {
            asked.headers_mut().append("authorization", value);
        }
    }
    runtime.block_on(ask(app, asked)).status.as_u16()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_headers_are_refused_and_nothing_breaks(headers in proptest::collection::vec(any::<Vec<u8>>(), 0..3)) {
        prop_assert!(matches!(status(&headers), 400 | 401));
    }

    #[test]
    fn anything_after_the_scheme_is_refused_and_nothing_breaks(rest in any::<Vec<u8>>()) {
        let header = [b"Bearer ", &rest[..]].concat();
        prop_assert!(matches!(status(&[header]), 400 | 401));
    }

    #[test]
    fn what_looks_like_a_token_is_refused_and_nothing_breaks(token in "[a-z]{1,3}_[0-9A-Za-z]{49}") {
        prop_assert_eq!(status(&[format!("Bearer {token}").into_bytes()]), 401);
    }

    #[test]
    fn a_good_token_with_more_around_it_is_refused_unless_that_is_blank(
        before in "[ -~]{0,4}",
        after in "[ -~]{0,4}",
    ) {
        let token = &APP.2;
        let status = status(&[format!("Bearer {before}{token}{after}").into_bytes()]);
        let blank = before.trim().is_empty() && after.trim().is_empty();
        prop_assert_eq!(status == 200, blank, "{:?} {:?}", before, after);
        prop_assert!(status < 500);
    }
}
