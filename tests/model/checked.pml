/* Checked fills of one key (G2, G3): the marker table, in any order, with replays and crashes.
 *
 * Sets of transactions are bit masks. A transaction's xid is its bit; its commit is first `logged` (flushed:
 * the daemon may be sent it), later `visible` (other sessions' snapshots contain it), in any order. A value is
 * represented by the set of transactions it contains. README.md says what each switch stands for.
 */
#ifndef WRITERS
#define WRITERS 3
#endif
#ifndef READERS
#define READERS 2
#endif
#ifndef CAP
#define CAP WRITERS /* how many xids a tombstone holds before it overflows into its floor */
#endif

#define BIT(x) (1 << (x))
#define ALL (BIT(WRITERS) - 1)
#define within(part, whole) (((part) & ~(whole)) == 0)
#define below(set) ((~(set) & ((set) + 1)) - 1) /* the xids under the set's xmin */
#define up_to(top) ((top) * 2 - ((top) != 0))   /* every xid not above the one with this bit */

#if defined(STANDBY) || defined(LSN_TOKEN) || defined(ORDER_SKIP)
#define ORDERED /* the order of the log matters */
#endif

#ifdef REACH /* a witness: this place can be reached, so the runs that find nothing are not empty */
#define reached(n) assert(n != REACH)
#else
#define reached(n) skip
#endif

/* The database. */
byte logged, visible;
byte lsn[WRITERS], last_lsn;
byte standby, standby_lsn; /* what the standby has replayed: a prefix of the log */

/* Redis. */
mtype = { none, tombstone, filled };
mtype marker = none;
byte xids;  /* tombstone: the xids to be seen */
byte floor; /* tombstone: the highest xid that overflowed, as a bit */
byte base;  /* tombstone: the snapshot of the filled marker it replaced. filled: its snapshot */
byte order; /* broken variants: an LSN in place of sets */
bool value;
byte content;

/* The daemon: what it has applied and must still see visible (and so renews); what it has acknowledged. */
byte held, acknowledged;
#ifdef COMPACT
byte polled; /* the snapshot that it sends along with its commands */
#endif

/* Ghost: invalidations that count. */
byte applied;

/* Readers between SELECT and fill. */
bool flying[READERS];
byte read_content[READERS], token[READERS], token_lsn[READERS];

#define need (xids | up_to(floor) | base)

inline check_value() {
  assert(!value || within(applied, content)); /* G3 */
}

/* drops the value because of the xids in d */
inline drop(d) {
#if !defined(STANDBY) && !defined(LSN_TOKEN) && !defined(ONE_XID)
  assert(!value || !within(d, applied)); /* G2: a replay never deletes */
#endif
  value = false;
  content = 0;
}

inline size() {
  n = 0;
  w = 0;
  do
  :: w < WRITERS -> n = n + ((xids >> w) & 1); w++
  :: else -> break
  od
}

inline shrink() {
#ifdef ONE_XID
  do
  :: (xids & (xids - 1)) != 0 -> xids = xids & (xids - 1)
  :: else -> break
  od;
#endif
  size();
#ifdef COMPACT
  if
  :: n > CAP && within(base, polled) -> reached(8); base = polled; xids = xids & ~polled; size()
  :: else
  fi;
#endif
  do
  :: n > CAP ->
     reached(1);
     w = xids & ~(xids - 1); /* the lowest goes */
     xids = xids & ~w;
     n--;
#ifndef NO_FLOOR
     if
     :: w > floor -> floor = w
     :: else
     fi;
#endif
  :: else -> break
  od;
  w = 0;
  n = 0
}

/* the newest LSN among the xids in d, into n */
inline newest(d) {
  n = 0;
  w = 0;
  do
  :: w < WRITERS && (d & BIT(w)) && lsn[w] > n -> n = lsn[w]
  :: w < WRITERS && !((d & BIT(w)) && lsn[w] > n) -> w++
  :: else -> break
  od;
  w = 0;
}

#ifdef COALESCE_ANY
#define known(d, set) (((d) & (set)) != 0)
#else
#define known(d, set) within(d, set)
#endif
#ifdef ORDER_SKIP
#define fresh_order (n > order)
#else
#define fresh_order true
#endif

/* The script, and the table of the design; one command may carry several xids. */
inline invalidate(d) {
  d_step {
#if defined(LSN_TOKEN) || defined(ORDER_SKIP)
    newest(d);
#endif
    if
#ifdef LSN_TOKEN
    :: marker == filled && n <= order -> skip
    :: else -> drop(d); marker = tombstone; order = (n > order -> n : order)
#else
#ifdef ORDER_SKIP
    :: n <= order -> skip
#endif
    :: fresh_order && marker == none -> drop(d); marker = tombstone; xids = d; order = n; shrink()
    :: fresh_order && marker == tombstone && known(d, xids) -> reached(2) /* replayed */
    :: fresh_order && marker == tombstone && !known(d, xids) -> drop(d); xids = xids | d; order = n; shrink()
    :: fresh_order && marker == filled && known(d, base) -> reached(3) /* kept */
    :: fresh_order && marker == filled && !known(d, base) ->
       drop(d);
       marker = tombstone;
       xids = d;
       order = n;
#ifdef NO_BASE
       base = 0;
#endif
       shrink()
#endif
    fi;
    n = 0;
    applied = applied | d;
    printf("  invalidate %d: %e xids %d floor %d base %d, value %d containing %d\n", d, marker, xids, floor, base, value, content);
    check_value()
  }
}

#ifdef LSN_TOKEN
#define acceptable (marker == none || token_lsn[me] >= order)
#else
#ifdef FILL_OVER_FILLED
#define acceptable (marker != tombstone || within(need, token[me]))
#else
#define acceptable within(need, token[me]) /* no marker: nothing is needed */
#endif
#endif

proctype Reader(byte me) {
  do
  :: d_step {
       !flying[me] -> flying[me] = true; read_content[me] = visible; token[me] = visible;
#ifdef LSN_TOKEN
       token_lsn[me] = last_lsn;
#endif
       printf("reader %d selects on the primary: contains %d\n", me, visible)
     }
#ifdef STANDBY
  :: d_step {
       !flying[me] -> flying[me] = true; read_content[me] = standby; token[me] = below(standby);
       printf("reader %d selects on the standby: contains %d, proves %d\n", me, standby, token[me])
     }
#endif
  :: d_step {
       flying[me] ->
       if
       :: acceptable ->
          if
          :: marker == tombstone -> reached(4)
          :: marker == filled -> reached(5)
          :: else
          fi;
          value = true; content = read_content[me]; marker = filled; base = token[me]; xids = 0; floor = 0;
#ifdef LSN_TOKEN
          order = token_lsn[me];
#endif
          printf("reader %d fills: contains %d\n", me, content);
          check_value()
       :: else -> reached(6); printf("reader %d is rejected\n", me)
       fi;
       flying[me] = false; read_content[me] = 0; token[me] = 0; token_lsn[me] = 0
     }
  :: d_step { flying[me] -> flying[me] = false; read_content[me] = 0; token[me] = 0; token_lsn[me] = 0 } /* gives up */
  od
}

inline log(x) {
  d_step {
    within(BIT(x), ALL & ~logged) -> logged = logged | BIT(x);
#ifdef ORDERED
    last_lsn++;
    lsn[x] = last_lsn;
#endif
    printf("%d is logged\n", BIT(x))
  }
}

inline reveal(x) {
  d_step {
    within(BIT(x), logged & ~visible) -> visible = visible | BIT(x);
    printf("%d is visible\n", BIT(x))
  }
}

proctype Database() {
  do
  :: log(0)
  :: log(1)
  :: reveal(0)
  :: reveal(1)
#if WRITERS > 2
  :: log(2)
  :: reveal(2)
#endif
  od
}

#ifdef STANDBY
proctype Standby() {
  byte x;
  do
  :: d_step {
       standby_lsn < last_lsn ->
       standby_lsn++;
       do
       :: lsn[x] != standby_lsn -> x++
       :: else -> break
       od;
       standby = standby | BIT(x);
       printf("the standby replays %d\n", BIT(x));
       x = 0
     }
  od
}
#endif

inline maybe(x) {
  if
  :: logged & BIT(x) -> d = d | BIT(x)
  :: true
  fi
}

/* Several daemons, partitions and a writer that invalidates after its own commit are all this: any set of logged
 * transactions, any number of times, in any order. */
proctype Daemon() {
  byte d, w, n;
  do
  :: atomic {
       maybe(0);
       maybe(1);
#if WRITERS > 2
       maybe(2);
#endif
       if
       :: d != 0 -> invalidate(d); held = held | (d & ~acknowledged)
       :: else
       fi;
       d = 0
     }
  :: atomic {
       (held & visible) != 0 -> acknowledged = acknowledged | (held & visible); held = held & ~visible;
       printf("acknowledged: %d\n", acknowledged)
     }
#ifdef COMPACT
  :: d_step { polled != visible -> polled = visible; printf("the daemon's snapshot: %d\n", polled) }
#endif
  :: atomic { held != 0 -> held = 0; printf("the daemon crashes\n") }
  od
}

/* What time takes away. A tombstone may go when everything it must outlive is over: every transaction that still counts
 * is visible (on the standby too), and every reader that selected before has filled or given up. A transaction that
 * was neither acknowledged nor is held by a living daemon stops counting: it will be sent again. */
#define counts (acknowledged | held)
#define due (applied & counts)
#ifdef STANDBY
#define everywhere (visible & standby)
#else
#define everywhere visible
#endif
#ifdef NO_RENEW
#define must_outlive (due & visible)
#else
#define must_outlive due
#endif
#define settled(me) (!flying[me] || within(must_outlive, read_content[me]))
#if READERS == 1
#define readers_done settled(0)
#else
#define readers_done (settled(0) && settled(1))
#endif

proctype Time() {
  do
  :: d_step {
       value -> value = false; content = 0; /* its TTL, eviction, or the application's own DEL */
#ifdef MARKER_TTL_OF_VALUE
       marker = none; base = 0;
#endif
       printf("the value goes\n")
     }
  :: d_step {
       marker != none && !value && within(must_outlive, everywhere) && readers_done ->
       reached(7);
       marker = none; xids = 0; floor = 0; base = 0; order = 0;
       applied = due;
       printf("the marker expires\n")
     }
  od
}

init {
  atomic {
    run Database(); run Daemon(); run Time(); run Reader(0);
#if READERS > 1
    run Reader(1);
#endif
#ifdef STANDBY
    run Standby();
#endif
  }
}
