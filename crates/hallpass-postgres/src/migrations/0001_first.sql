-- Tokens, the epochs of their owners, accounts, and the audit trail.
--
-- A template: the names and the type of user ids are the application's choice.
-- Times are bigint microseconds since 1970-01-01T00:00:00Z: exact, and the same whatever the session's time zone.
-- COLLATE "C" wherever bytes are compared: no other collation is the same on every machine and after every upgrade.
-- A CHECK wherever a wrong value could be told from a right one.

-- A token, beside its hash. The text itself is nowhere. Some room is left in each page, so that noting a use rewrites the
-- row in its page and no index.
CREATE TABLE {tokens} (
    -- SHA-256 of the text.
    hash         bytea     NOT NULL CONSTRAINT {.tokens_hash_is_unique} UNIQUE CHECK (octet_length(hash) = 32),
    -- The public name.
    id           uuid      NOT NULL CONSTRAINT {.tokens_id_is_unique} UNIQUE,
    -- The application's own id; not a reference to {accounts}, which an application need not use.
    user_id      {user_id} NOT NULL CHECK (user_id::text <> ''),
    -- The owner's epoch when the token was made. It is dead under any other.
    epoch        bigint    NOT NULL CHECK (epoch BETWEEN 0 AND 4294967295),
    purpose      text      COLLATE "C" NOT NULL CHECK (purpose <> ''),
    -- login or issued; a word that is not known counts as the weaker one.
    origin       text      COLLATE "C" NOT NULL,
    name         text,
    -- Prefix and last four characters, for lists.
    hint         text      NOT NULL,
    -- Separated by blanks.
    scopes       text      COLLATE "C" NOT NULL,
    -- What the maker wanted to keep with it. Not jsonb: that refuses the escape of NUL, which JSON allows.
    meta         json      NOT NULL CHECK (json_typeof(meta) = 'object'),
    -- The address it is bound to.
    bound_to     text      COLLATE "C",
    created_at   bigint    NOT NULL,
    -- Dead at this very instant.
    expires_at   bigint,
    last_used_at bigint,
    revoked_at   bigint{users_key}
) WITH (fillfactor = 90);

-- A user's tokens of one purpose, newest first, page by page. The columns behind INCLUDE decide whether a token lives, so that
-- counting a user's living tokens (for the cap, and when all are ended) reads little more than this index.
CREATE INDEX {.tokens_by_owner} ON {tokens} (user_id, purpose, created_at, id)
    INCLUDE (epoch, revoked_at, expires_at);

-- For prune. Partial: a token that never expires, or is not revoked, takes no room here.
CREATE INDEX {.tokens_by_end} ON {tokens} (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX {.tokens_by_revocation} ON {tokens} (revoked_at) WHERE revoked_at IS NOT NULL;

-- How many times all of a user's tokens were ended. No row is epoch 0. A row is never deleted, not even with the
-- application's user: one who comes back under the same id would otherwise find the old tokens alive.
CREATE TABLE {owners} (
    user_id     {user_id} NOT NULL CONSTRAINT {.owners_key} PRIMARY KEY CHECK (user_id::text <> ''),
    epoch       bigint    NOT NULL CHECK (epoch BETWEEN 0 AND 4294967295),
    -- When it was last raised, if ever.
    raised_at   bigint,
    -- The epoch up to which prune has deleted everything older, so that it need not look again.
    swept_epoch bigint    NOT NULL CHECK (swept_epoch BETWEEN 0 AND epoch)
) WITH (fillfactor = 90);

-- The owners that prune has yet to look at: few, while all owners may be many.
CREATE INDEX {.owners_to_sweep} ON {owners} (raised_at) WHERE swept_epoch < epoch;

-- The built-in accounts. Their epoch is in {owners}, in one place.
CREATE TABLE {accounts} (
    id           {user_id} NOT NULL CONSTRAINT {.accounts_key} PRIMARY KEY REFERENCES {owners} (user_id),
    -- The canonical form, compared byte for byte.
    email        text      COLLATE "C" NOT NULL CONSTRAINT {.accounts_email_is_unique} UNIQUE CHECK (email <> ''),
    -- A PHC string, or nothing while there is no password.
    password     text      COLLATE "C" CHECK (password <> ''),
    -- Privileged scopes that were granted by hand, separated by blanks.
    grants       text      COLLATE "C" NOT NULL,
    created_at   bigint    NOT NULL,
    confirmed_at bigint,
    disabled_at  bigint
);

-- What happened. A number is never given twice; one that is missing was given to a transaction that failed. User ids are
-- text here whatever they are elsewhere: the trail outlives the users, and what somebody tried to be need not be an id.
CREATE TABLE {audit} (
    seq        bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT {.audit_key} PRIMARY KEY,
    at         bigint NOT NULL,
    kind       text   COLLATE "C" NOT NULL CHECK (kind <> ''),
    user_id    text   COLLATE "C",
    token_id   uuid,
    purpose    text   COLLATE "C",
    reason     text   COLLATE "C",
    count      bigint CHECK (count >= 0),
    request_id text   COLLATE "C",
    peer       text   COLLATE "C"
);

-- The trail is only ever added to. This stops mistakes, not whoever owns the table.
CREATE FUNCTION {audit_is_append_only}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is append-only';
END
$$;
CREATE TRIGGER {.audit_is_append_only} BEFORE UPDATE OR DELETE OR TRUNCATE ON {audit}
    FOR EACH STATEMENT EXECUTE FUNCTION {audit_is_append_only}();
