-- One catalogue per run. Facts are JSON. Times are seconds since 1970. A slot is an item's place in the journal:
-- its index, unless items are known by a key. What is settled is what is in `records` and `failures`, and said nowhere
-- else. The last column of each table is a checksum of the others (`seals.py`).
CREATE TABLE run (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    format INTEGER NOT NULL,
    id TEXT NOT NULL,
    state TEXT NOT NULL,                    -- running, stopped, finished
    created REAL NOT NULL,
    updated REAL NOT NULL,
    seconds REAL NOT NULL DEFAULT 0,        -- of work, all sessions added up
    sessions INTEGER NOT NULL DEFAULT 0,    -- how often it was begun or resumed
    round INTEGER NOT NULL DEFAULT 0,       -- how often its failures were retried
    identity TEXT NOT NULL,                 -- what makes it the same work
    request TEXT NOT NULL,                  -- what was asked for, to ask again
    boot TEXT,                              -- the machine's boot in which it last wrote
    fsync TEXT NOT NULL,
    total INTEGER,                          -- items of the input, once it was read to its end
    places INTEGER,                         -- rows of `places`; NULL: each item is at its index
    ok INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    timed_out INTEGER NOT NULL DEFAULT 0,
    worker_lost INTEGER NOT NULL DEFAULT 0,
    error TEXT,                             -- why it stopped, a sentence
    seal INTEGER NOT NULL DEFAULT 0
);
-- Where the outcomes that returned lie in the log. A later record of the same slot replaces an earlier one.
CREATE TABLE records (
    start INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    size INTEGER NOT NULL,
    crc INTEGER NOT NULL,                   -- of the record itself
    seal INTEGER NOT NULL
);
CREATE TABLE failures (
    slot INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    cause TEXT NOT NULL,                    -- what failures are grouped by
    record TEXT NOT NULL,                   -- all of the outcome, as --on-error record writes it, and more
    round INTEGER NOT NULL,
    seal INTEGER NOT NULL
);
-- The input up to item `items`: where it is (NULL: cannot be told) and its digest since the last base.
CREATE TABLE anchors (
    items INTEGER PRIMARY KEY,
    place TEXT,
    digest TEXT NOT NULL,
    base INTEGER NOT NULL,
    seal INTEGER NOT NULL
);
CREATE TABLE bad_records (
    path TEXT NOT NULL,
    line INTEGER NOT NULL,
    message TEXT NOT NULL,
    seal INTEGER NOT NULL,
    PRIMARY KEY (path, line)
) WITHOUT ROWID;
-- Only if items are known by a key.
CREATE TABLE keys (
    key BLOB PRIMARY KEY,
    slot INTEGER NOT NULL,
    digest BLOB NOT NULL,                   -- of the item
    pass INTEGER NOT NULL,                  -- the last reading of the input that had it
    seal INTEGER NOT NULL
) WITHOUT ROWID;
-- Only if outcomes depend on the items before them: what is to be known to go on behind item `items`, in parts. Part -1
-- says which row of each other part was the last by then.
CREATE TABLE states (
    items INTEGER NOT NULL,
    part INTEGER NOT NULL,
    before INTEGER,                         -- the row of the same part that it adds to; NULL: it stands for itself
    content BLOB NOT NULL,
    seal INTEGER NOT NULL,
    PRIMARY KEY (items, part)
) WITHOUT ROWID;
CREATE TABLE places (
    position INTEGER PRIMARY KEY,           -- index in the input as it was last read
    count INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    seal INTEGER NOT NULL
);
