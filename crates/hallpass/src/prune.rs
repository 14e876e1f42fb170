//! Deleting what is long dead.

use crate::{clock::Timestamp, error::Unavailable, store::TokenStore};

/// Tokens deleted at once: few enough that no lock is held for 50 ms.
const BATCH: u32 = 500;

/// Deletes tokens that died before `cutoff`, batch after batch, and says how many; `progress` hears of each batch.
///
/// Cancel safe: what is deleted is deleted.
///
/// # Errors
/// [`Unavailable`] if the store is out of reach; earlier batches stay deleted.
pub async fn prune(
    store: &dyn TokenStore,
    cutoff: Timestamp,
    mut progress: impl FnMut(u64) + Send,
) -> Result<u64, Unavailable> {
    let mut total = 0;
    loop {
        let deleted = store.prune(cutoff, BATCH).await?;
        total += deleted;
        progress(deleted);
        if deleted < u64::from(BATCH) {
            return Ok(total);
        }
    }
}
