-- Tokens, the epochs of their owners, accounts, and the audit trail.
--
-- MySQL and MariaDB commit each of these statements by itself, so each may be run again: whoever is killed between two
-- of them goes on here the next time.
--
-- Times are microseconds since 1970-01-01T00:00:00Z, as BIGINT: TIMESTAMP ends in 2038 and moves with the session's
-- time zone. What is compared is VARBINARY or BINARY, byte for byte: the collations that both databases have take "a" and
-- "a " for one. What is only kept is utf8mb4. A CHECK wherever a wrong value could be told from a right one.

-- A token, beside its hash. The text itself is nowhere.
--
-- Sorted by a number of its own, not by hash: rows are appended to it, and only the small indexes are written to at
-- random. They name a row by that number.
CREATE TABLE IF NOT EXISTS {tokens} (
    seq          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    -- SHA-256 of the text.
    hash         BINARY(32)     NOT NULL,
    -- The public name, a UUID.
    id           BINARY(16)     NOT NULL,
    -- The application's own; not a reference to the accounts, which an application need not use.
    user_id      {user_id}      NOT NULL,
    -- The owner's epoch when the token was made. It is dead under any other.
    epoch        INT UNSIGNED   NOT NULL,
    purpose      VARBINARY(40)  NOT NULL CHECK (purpose <> ''),
    -- login or issued; a word that is not known counts as the weaker one.
    origin       VARCHAR(20)    NOT NULL,
    name         VARCHAR(255),
    -- Prefix and last four characters, for lists.
    hint         VARCHAR(64)    NOT NULL,
    -- Separated by blanks.
    scopes       TEXT           NOT NULL,
    -- What the maker wanted to keep with it: an object of 4 KiB at most. Not of the type JSON, which MySQL would sort and
    -- round in its own way.
    meta         LONGTEXT       NOT NULL
                 CHECK (octet_length(meta) <= 4096 AND json_valid(meta) AND json_type(meta) = 'OBJECT'),
    -- The address it is bound to.
    bound_to     VARCHAR(255),
    created_at   BIGINT         NOT NULL,
    -- Dead at this very instant.
    expires_at   BIGINT,
    last_used_at BIGINT,
    revoked_at   BIGINT,
    UNIQUE KEY by_hash (hash),
    UNIQUE KEY by_id (id),
    -- A user's tokens of one purpose, newest first, page by page. The last three columns decide whether a token lives, so that
    -- counting a user's living tokens (for the cap, and when all are ended) reads this index alone.
    KEY by_owner (user_id, purpose, created_at, id, epoch, revoked_at, expires_at),
    -- For prune.
    KEY by_end (expires_at),
    KEY by_revocation (revoked_at){users_key}
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, CHARACTER SET = utf8mb4, COLLATE = utf8mb4_bin;

-- How many times all of a user's tokens were ended. No row is epoch 0. A row is never deleted: a user who comes back
-- under the same id would otherwise find the old tokens alive. Hence no reference to the application's users either.
CREATE TABLE IF NOT EXISTS {owners} (
    user_id   {user_id}    NOT NULL PRIMARY KEY,
    epoch     INT UNSIGNED NOT NULL,
    -- When it was last raised, if ever.
    raised_at BIGINT,
    -- The same, until prune has deleted what was ended by then: so that it finds the few owners it has yet to look at.
    unswept   BIGINT,
    CHECK (unswept IS NULL OR unswept <= raised_at),
    KEY to_sweep (unswept)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, CHARACTER SET = utf8mb4, COLLATE = utf8mb4_bin;

-- The built-in accounts. Their epoch is in the table of owners, in one place. No reference to it: the two rows are written in one
-- transaction, and a reference would ask for one more right.
CREATE TABLE IF NOT EXISTS {accounts} (
    id           {user_id}      NOT NULL PRIMARY KEY,
    -- The canonical form: 160 characters of up to four bytes.
    email        VARBINARY(640) NOT NULL CHECK (email <> ''),
    -- A PHC string, or nothing while there is no password.
    password     VARBINARY(1024) CHECK (password <> ''),
    -- Privileged scopes that were granted by hand, separated by blanks.
    grants       TEXT           NOT NULL,
    created_at   BIGINT         NOT NULL,
    confirmed_at BIGINT,
    disabled_at  BIGINT,
    UNIQUE KEY by_email (email)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, CHARACTER SET = utf8mb4, COLLATE = utf8mb4_bin;

-- What happened. Only ever added to. Nothing here enforces that: a trigger would, but on a MySQL with a binary log
-- making one asks for rights over the whole server. GRANT the user INSERT and SELECT alone on this table instead.
CREATE TABLE IF NOT EXISTS {audit} (
    seq        BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at         BIGINT         NOT NULL,
    kind       VARCHAR(64)    NOT NULL CHECK (kind <> ''),
    user_id    VARBINARY(255),
    token_id   BINARY(16),
    purpose    VARBINARY(40),
    reason     VARCHAR(64),
    count      BIGINT         CHECK (count >= 0),
    request_id VARCHAR(255),
    peer       VARCHAR(255)
) ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, CHARACTER SET = utf8mb4, COLLATE = utf8mb4_bin;
