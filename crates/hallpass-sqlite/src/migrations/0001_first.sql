-- Tokens, the epochs of their owners, accounts, and the audit trail.
--
-- Every name begins with hallpass_, so that the tables can live in an application's own file.
-- Times are microseconds since 1970-01-01T00:00:00Z. STRICT, because SQLite would otherwise keep any value in any
-- column; a CHECK wherever a wrong value could be told from a right one.

-- A token, beside its hash. The text itself is nowhere.
--
-- A table with a rowid, not one that is sorted by hash: rows are appended to it, and only the small index of hashes is
-- written to at random.
CREATE TABLE hallpass_tokens (
    -- SHA-256 of the text.
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    -- The public name, a UUID.
    id           BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    -- Opaque text of the application; not a reference to hallpass_accounts, which an application need not use.
    user_id      TEXT    NOT NULL CHECK (user_id <> ''),
    -- The owner's epoch when the token was made. It is dead under any other.
    epoch        INTEGER NOT NULL CHECK (epoch BETWEEN 0 AND 4294967295),
    purpose      TEXT    NOT NULL CHECK (purpose <> ''),
    -- login or issued; a word that is not known counts as the weaker one.
    origin       TEXT    NOT NULL,
    name         TEXT,
    -- Prefix and last four characters, for lists.
    hint         TEXT    NOT NULL,
    -- Separated by blanks.
    scopes       TEXT    NOT NULL,
    -- What the maker wanted to keep with it. In two steps, because json_type itself fails on what is no JSON.
    meta         TEXT    NOT NULL CHECK (CASE WHEN json_valid(meta) THEN json_type(meta) = 'object' ELSE 0 END),
    -- The address it is bound to.
    bound_to     TEXT,
    created_at   INTEGER NOT NULL,
    -- Dead at this very instant.
    expires_at   INTEGER,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;

-- A user's tokens of one purpose, newest first, page by page. The last three columns decide whether a token lives, so
-- that counting a user's living tokens (for the cap, and when all are ended) reads this index alone, and a list passes over
-- the dead without reading their rows.
CREATE INDEX hallpass_tokens_by_owner
    ON hallpass_tokens (user_id, purpose, created_at, id, epoch, revoked_at, expires_at);

-- For prune. Partial: a token that never expires, or is not revoked, takes no room here.
CREATE INDEX hallpass_tokens_by_end ON hallpass_tokens (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX hallpass_tokens_by_revocation ON hallpass_tokens (revoked_at) WHERE revoked_at IS NOT NULL;

-- How many times all of a user's tokens were ended. No row is epoch 0. A row is never deleted: a user who comes back
-- under the same id would otherwise find the old tokens alive.
CREATE TABLE hallpass_owners (
    user_id     TEXT    NOT NULL PRIMARY KEY CHECK (user_id <> ''),
    epoch       INTEGER NOT NULL CHECK (epoch BETWEEN 0 AND 4294967295),
    -- When it was last raised, if ever.
    raised_at   INTEGER,
    -- The epoch up to which prune has deleted everything older, so that it need not look again.
    swept_epoch INTEGER NOT NULL CHECK (swept_epoch BETWEEN 0 AND epoch)
) STRICT, WITHOUT ROWID;

-- The owners that prune has yet to look at: few, while all owners may be many.
CREATE INDEX hallpass_owners_to_sweep ON hallpass_owners (raised_at) WHERE swept_epoch < epoch;

-- The built-in accounts. Their epoch is in hallpass_owners, in one place.
CREATE TABLE hallpass_accounts (
    id           TEXT    NOT NULL PRIMARY KEY REFERENCES hallpass_owners (user_id),
    -- The canonical form, compared byte for byte.
    email        TEXT    NOT NULL UNIQUE COLLATE BINARY CHECK (email <> ''),
    -- A PHC string, or nothing while there is no password.
    password     TEXT    CHECK (password <> ''),
    -- Privileged scopes that were granted by hand, separated by blanks.
    grants       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    confirmed_at INTEGER,
    disabled_at  INTEGER
) STRICT, WITHOUT ROWID;

-- What happened. AUTOINCREMENT: a number is never given twice, so that a gap at the end shows.
CREATE TABLE hallpass_audit (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    kind       TEXT    NOT NULL CHECK (kind <> ''),
    user_id    TEXT,
    token_id   BLOB    CHECK (length(token_id) = 16),
    purpose    TEXT,
    reason     TEXT,
    count      INTEGER CHECK (count >= 0),
    request_id TEXT,
    peer       TEXT
) STRICT;

-- The trail is only ever added to. This stops mistakes, not whoever may write to the file.
CREATE TRIGGER hallpass_audit_is_not_changed BEFORE UPDATE ON hallpass_audit
BEGIN
    SELECT RAISE(ABORT, 'hallpass_audit is append-only');
END;
CREATE TRIGGER hallpass_audit_is_not_deleted BEFORE DELETE ON hallpass_audit
BEGIN
    SELECT RAISE(ABORT, 'hallpass_audit is append-only');
END;
