//! The server that the tests of one program share.

use hallpass_testbed::Postgres;

pub(crate) fn shared() -> &'static Postgres {
    Postgres::shared().unwrap()
}
