//! Any text given to every parser of a text.
#![no_main]

use hallpass::{EmailAddress, Expiry, PlainToken, Scopes, Timestamp, TokenId, password::StoredPassword, store::Cursor};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fuzz_target!(|text: &str| {
    if let Ok(token) = PlainToken::parse(text) {
        assert_eq!(token.expose(), text);
    }
    if let Ok(scopes) = Scopes::parse_list(text) {
        assert_eq!(Scopes::parse_list(&scopes.to_string()), Ok(scopes));
    }
    if let Ok(Ok(Some(end))) = Expiry::parse(text).map(|expiry| expiry.at(NOW)) {
        assert!(end > NOW);
    }
    if let Ok(address) = EmailAddress::parse(text) {
        assert_eq!(EmailAddress::parse(address.as_str()), Ok(address));
    }
    if let Some(id) = TokenId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    let _ = Cursor::parse(text);
    let _ = StoredPassword::from_phc(text);
});
