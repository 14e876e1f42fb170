//! Passwords: hashed by Argon2id on threads of their own.
//!
//! A log-in costs some 20 ms of processor and 19 MiB of memory. On the runtime's own threads a storm of log-ins
//! would take both from everything else, so a few dedicated threads of lower priority do the hashing, each with
//! one block of memory that it uses again and again, behind a queue that is bounded: who finds it full is told
//! to come back.

mod pool;

use std::{fmt, sync::Arc, time::Duration};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use password_hash::phc::{Output, PasswordHash, Salt};
use pool::Pool;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Invalid, Unavailable};

/// Argon2id with m = 19456 KiB, t = 2, p = 1: the first choice of OWASP's Password Storage cheat sheet.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What a stored hash may ask of us at most. Above it somebody tampered with the hash, or imported one that would
/// let a log-in take the machine.
const MEMORY_KIB_MAX: u32 = 128 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

/// NIST SP 800-63B-4 asks for 15 characters where a password is the only factor, and for 8 at the very least.
const CHARACTERS_MIN: usize = 15;
const CHARACTERS_FLOOR: usize = 8;
/// Long enough for any passphrase, short enough to hash without a thought.
const BYTES_MAX: usize = 4096;

/// How many checks may wait for one thread: at 20 ms each, the last waits for some 1.3 s.
const QUEUE_PER_THREAD: usize = 64;

const SALT_LEN: usize = 16;

/// Hashes and checks passwords. Cheap to clone; clones share the threads, which start with the first password.
#[derive(Clone)]
pub struct Passwords {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Pool,
    params: Params,
    shortest: usize,
}

/// What a check came to.
#[derive(Debug)]
pub enum Verdict {
    /// The password is right.
    Match {
        /// The same password hashed with today's parameters, if the stored form is weaker than that.
        stronger: Option<StoredPassword>,
    },
    /// The password is wrong, or the stored form is no hash that we accept.
    Mismatch,
}

impl Passwords {
    /// Argon2id at the first choice of OWASP, on as many threads as there are cores but one.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Sets the cost, the threads and the queue.
    #[must_use]
    pub fn builder() -> PasswordsBuilder {
        PasswordsBuilder::default()
    }

    /// Takes a password that somebody wants to have from now on.
    ///
    /// # Errors
    /// Fewer than the smallest number of characters (15 unless configured), or more than 4,096 bytes.
    pub fn accept(&self, text: impl Into<String>) -> Result<NewPassword, Invalid> {
        let text = Zeroizing::new(text.into());
        if text.chars().count() < self.shared.shortest {
            let message = format!("must be at least {} characters", self.shared.shortest);
            return Err(Invalid::new("password", message));
        }
        if text.len() > BYTES_MAX {
            return Err(Invalid::new("password", "must be at most 4096 bytes"));
        }
        Ok(NewPassword(text))
    }

    /// Hashes a new password.
    ///
    /// Cancel safe: a future that is dropped while it waits in the queue is not hashed for.
    ///
    /// # Errors
    /// The queue is full, or the operating system has no randomness.
    pub async fn hash(&self, password: &NewPassword) -> Result<StoredPassword, Unavailable> {
        let mut salt = [0; SALT_LEN];
        crate::token::random(&mut salt)?;
        let (params, password) = (self.shared.params.clone(), password.0.clone());
        self.shared.pool.run(move |memory| create(&params, password.as_bytes(), &salt, memory)).await?
    }

    /// Checks a password against what is stored; against nobody, at the same cost, if nothing is.
    ///
    /// Cancel safe, as [`hash`](Self::hash).
    ///
    /// # Errors
    /// The queue is full.
    pub async fn verify(
        &self,
        password: &str,
        stored: Option<&StoredPassword>,
    ) -> Result<Verdict, Unavailable> {
        let mut salt = [0; SALT_LEN];
        crate::token::random(&mut salt)?;
        // Nobody's password is longer: do not let an attacker choose how much is hashed.
        let too_long = password.len() > BYTES_MAX;
        let password = Zeroizing::new(if too_long { String::new() } else { password.to_owned() });
        let (params, stored) = (self.shared.params.clone(), stored.cloned());
        self.shared
            .pool
            .run(move |memory| {
                let password = password.as_bytes();
                let Some(parsed) = stored.as_ref().and_then(StoredPassword::parse) else {
                    let _ = create(&params, password, &salt, memory);
                    return Ok(Verdict::Mismatch);
                };
                if !parsed.matches(password, memory) || too_long {
                    return Ok(Verdict::Mismatch);
                }
                let weaker = parsed.is_weaker_than(&params);
                let stronger = weaker.then(|| create(&params, password, &salt, memory)).transpose()?;
                Ok(Verdict::Match { stronger })
            })
            .await?
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("shortest", &self.shared.shortest).finish_non_exhaustive()
    }
}

/// See [`Passwords::builder`].
#[derive(Debug, Clone)]
pub struct PasswordsBuilder {
    params: Params,
    shortest: usize,
    threads: usize,
    queue: Option<usize>,
}

impl Default for PasswordsBuilder {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        Self {
            params: Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or(Params::DEFAULT),
            shortest: CHARACTERS_MIN,
            threads: cores.saturating_sub(1).max(1),
            queue: None,
        }
    }
}

impl PasswordsBuilder {
    /// Sets the smallest number of characters of a new password; 8 is the least that counts.
    #[must_use]
    pub fn shortest(mut self, characters: usize) -> Self {
        self.shortest = characters.max(CHARACTERS_FLOOR);
        self
    }

    /// Sets how many threads hash; at least one.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Sets how many checks may wait, over all threads; at least one.
    #[must_use]
    pub fn queue(mut self, length: usize) -> Self {
        self.queue = Some(length.max(1));
        self
    }

    /// Raises the cost: memory in KiB, passes, lanes.
    ///
    /// # Errors
    /// A cost below OWASP's first choice, above what a stored hash may ask for, or not one that Argon2 knows.
    pub fn cost(mut self, memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, Invalid> {
        let invalid = || {
            Invalid::new(
                "password",
                "the cost must be at least m=19456 KiB, t=2, p=1 and at most m=131072 KiB, t=16, p=16",
            )
        };
        let in_bounds = (MEMORY_KIB..=MEMORY_KIB_MAX).contains(&memory_kib)
            && (PASSES..=PASSES_MAX).contains(&passes)
            && (LANES..=LANES_MAX).contains(&lanes);
        if !in_bounds {
            return Err(invalid());
        }
        self.params = Params::new(memory_kib, passes, lanes, None).map_err(|_| invalid())?;
        Ok(self)
    }

    /// Makes it cheap and worthless, for tests that log in thousands of times.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn worthless(mut self) -> Self {
        self.params = Params::new(Params::MIN_M_COST, 1, 1, None).unwrap_or(Params::DEFAULT);
        self
    }

    /// No thread starts before the first password comes.
    #[must_use]
    pub fn build(self) -> Passwords {
        let queue = self.queue.unwrap_or(self.threads * QUEUE_PER_THREAD);
        let patience = Duration::from_secs(1);
        let pool = Pool::new(self.threads, queue, patience);
        Passwords { shared: Arc::new(Shared { pool, params: self.params, shortest: self.shortest }) }
    }
}

/// A password that somebody wants to have, found long enough. Wiped from memory when dropped.
#[derive(Clone)]
pub struct NewPassword(Zeroizing<String>);

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPassword(..)")
    }
}

/// A password as it is stored: a PHC string. Only a store ever reads it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredPassword(Box<str>);

impl StoredPassword {
    /// The string as a store read it.
    #[must_use]
    pub fn from_phc(phc: impl Into<String>) -> Self {
        Self(phc.into().into())
    }

    /// The string that a store keeps. For stores alone.
    #[must_use]
    pub fn as_phc(&self) -> &str {
        &self.0
    }

    fn parse(&self) -> Option<Parsed> {
        let hash = PasswordHash::new(&self.0).ok()?;
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
        let params = Params::try_from(&hash).ok()?;
        let within = params.m_cost() <= MEMORY_KIB_MAX
            && params.t_cost() <= PASSES_MAX
            && params.p_cost() <= LANES_MAX;
        within.then_some(())?;
        Some(Parsed { algorithm, version, params, salt: hash.salt?, output: hash.hash? })
    }
}

impl fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredPassword(..)")
    }
}

struct Parsed {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Salt,
    output: Output,
}

impl Parsed {
    fn matches(&self, password: &[u8], memory: &mut Vec<Block>) -> bool {
        let mut out = Zeroizing::new(vec![0; self.output.len()]);
        let argon2 = Argon2::new(self.algorithm, self.version, self.params.clone());
        let filled = fill(&argon2, password, &self.salt, &mut out, memory);
        // `Output` compares in constant time.
        filled.is_ok() && Output::new(&out).is_ok_and(|output| output == self.output)
    }

    fn is_weaker_than(&self, today: &Params) -> bool {
        self.algorithm != Algorithm::Argon2id
            || self.version != Version::default()
            || self.params.m_cost() < today.m_cost()
            || self.params.t_cost() < today.t_cost()
            || self.params.p_cost() < today.p_cost()
    }
}

fn create(
    params: &Params,
    password: &[u8],
    salt: &[u8],
    memory: &mut Vec<Block>,
) -> Result<StoredPassword, Unavailable> {
    let failed =
        |error: &dyn fmt::Display| Unavailable::because("password hashing failed", error.to_string());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::default(), params.clone());
    let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
    fill(&argon2, password, salt, &mut out, memory).map_err(|error| failed(&error))?;
    let phc = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::default().into()),
        params: params.try_into().map_err(|error| failed(&error))?,
        salt: Some(Salt::new(salt).map_err(|error| failed(&error))?),
        hash: Some(Output::new(&out).map_err(|error| failed(&error))?),
    };
    out.zeroize();
    Ok(StoredPassword::from_phc(phc.to_string()))
}

/// One Argon2 with the thread's own memory, which grows to the largest cost it met.
fn fill(
    argon2: &Argon2<'_>,
    password: &[u8],
    salt: &[u8],
    out: &mut [u8],
    memory: &mut Vec<Block>,
) -> argon2::Result<()> {
    let blocks = argon2.params().block_count();
    if memory.len() < blocks {
        memory.resize(blocks, Block::default());
    }
    argon2.hash_password_into_with_memory(password, salt, out, memory.as_mut_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "correct horse battery";

    fn cheap() -> Passwords {
        Passwords::builder().worthless().build()
    }

    async fn stored(passwords: &Passwords) -> StoredPassword {
        passwords.hash(&passwords.accept(PASSWORD).unwrap()).await.unwrap()
    }

    async fn matches(passwords: &Passwords, password: &str, phc: &str) -> bool {
        let stored = StoredPassword::from_phc(phc);
        matches!(passwords.verify(password, Some(&stored)).await.unwrap(), Verdict::Match { .. })
    }

    #[tokio::test]
    async fn what_is_hashed_matches_and_nothing_else_does() {
        let passwords = Passwords::new();
        let stored = stored(&passwords).await;
        assert!(stored.as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", stored.as_phc());
        assert!(matches!(
            passwords.verify(PASSWORD, Some(&stored)).await.unwrap(),
            Verdict::Match { stronger: None }
        ));
        for wrong in ["correct horse batterY", "", "correct horse battery ", "correct horse battery\0"] {
            assert!(!matches(&passwords, wrong, stored.as_phc()).await, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn nobody_matches_nothing() {
        assert!(matches!(cheap().verify("", None).await.unwrap(), Verdict::Mismatch));
    }

    #[tokio::test]
    async fn a_weaker_hash_matches_and_is_replaced() {
        let weak = stored(&cheap()).await;
        let passwords = Passwords::new();
        let Verdict::Match { stronger: Some(stronger) } =
            passwords.verify(PASSWORD, Some(&weak)).await.unwrap()
        else {
            panic!("not replaced");
        };
        assert!(stronger.as_phc().contains("m=19456,t=2,p=1"));
        assert!(matches(&passwords, PASSWORD, stronger.as_phc()).await);
    }

    #[tokio::test]
    async fn another_implementations_hash_matches() {
        // Made by the reference implementation's command line: `echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1`.
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(matches(&cheap(), "password", phc).await);
        assert!(!matches(&cheap(), "Password", phc).await);
    }

    #[tokio::test]
    async fn costs_above_the_ceiling_and_malformed_hashes_fail_without_panic() {
        for phc in [
            "$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=65536,t=4294967295,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=65536,t=2,p=4294967295$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=99$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$m=0,t=0,p=0$$",
            "$2b$12$abcdefghijklmnopqrstuv",
            "",
            "$",
            "!",
        ] {
            assert!(!matches(&cheap(), "password", phc).await, "{phc}");
        }
    }

    #[test]
    fn length_is_counted_in_characters_and_bounded_in_bytes() {
        let passwords = cheap();
        assert!(passwords.accept("ü".repeat(14)).is_err());
        assert!(passwords.accept("ü".repeat(15)).is_ok());
        assert!(passwords.accept("a".repeat(4096)).is_ok());
        assert!(passwords.accept("a".repeat(4097)).is_err());
        let eager = Passwords::builder().shortest(1).worthless().build();
        assert!(eager.accept("1234567").is_err());
        assert!(eager.accept("12345678").is_ok());
    }

    #[tokio::test]
    async fn a_password_too_long_is_not_cut_to_one_that_matches() {
        let passwords = cheap();
        let whole = "a".repeat(4096);
        let stored = passwords.hash(&passwords.accept(whole.clone()).unwrap()).await.unwrap();
        assert!(matches(&passwords, &whole, stored.as_phc()).await);
        assert!(!matches(&passwords, &format!("{whole}a"), stored.as_phc()).await);
        assert!(!matches(&passwords, &"a".repeat(72), stored.as_phc()).await);
    }

    #[test]
    fn debug_says_nothing() {
        let passwords = cheap();
        let new = passwords.accept(PASSWORD).unwrap();
        assert_eq!(
            format!("{new:?} {:?}", StoredPassword::from_phc("x")),
            "NewPassword(..) StoredPassword(..)"
        );
        assert!(!format!("{passwords:?}").contains("salt"));
    }
}
