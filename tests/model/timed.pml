/* Time: settle for plain fills (G4), renew and the tombstone's life for checked fills (G3), of one key.
 *
 * A tick of the clock is a unit that SETTLE, TTL, MARGIN and RENEW count in. Whoever must act before a moment keeps
 * the clock from passing it. Otherwise as checked.pml: sets are masks, a value is the transactions it contains.
 *
 * One of: PLAIN (`fill: plain`: no marker stands, whoever fills), CHECKED (checked readers, `fill: checked`). README.md says
 * what each switch stands for.
 */
#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef READERS
#define READERS 2
#endif
#ifndef SETTLE
#define SETTLE 2
#endif
#ifndef TTL
#define TTL 2
#endif
#ifndef MARGIN
#define MARGIN 1
#endif
#ifndef RENEW
#define RENEW (TTL + MARGIN - 1) /* how often a tombstone is renewed at the latest */
#endif
#ifndef BOUND
#define BOUND SETTLE
#endif

#define BIT(x) (1 << (x))
#define ALL (BIT(WRITERS) - 1)
#define within(part, whole) (((part) & ~(whole)) == 0)

#ifdef REACH
#define reached(n) assert(n != REACH)
#else
#define reached(n) skip
#endif

/* The database. */
byte logged, visible;
#ifdef PROMPT
byte visible_for[3]; /* ticks, up to BOUND + 1 */
#endif

/* Redis. */
mtype = { none, tombstone, filled };
mtype marker = none;
byte xids, base;
byte life;    /* ticks until the marker expires */
bool value;
byte content;

/* The daemon, which forgets all but `acknowledged` in a crash. */
byte held;              /* applied, not yet acknowledged */
byte seen;              /* visible in a snapshot of ours */
byte seen_for[3]; /* ticks since, up to SETTLE */
byte renewed;           /* CHECKED: the tombstone was written late enough to be left alone */
byte wrote_for[3]; /* CHECKED: ticks since the last write, up to RENEW */
byte acknowledged;

/* Readers between SELECT and fill. */
bool flying[READERS], is_plain[READERS];
byte read_content[READERS], age[READERS];

inline check_value() {
#ifdef PLAIN
  assert(!value || within(acknowledged, content)); /* what is acknowledged is never missed again */
#else
  assert(!value || within(held | acknowledged, content)); /* G3 */
#endif
}

inline lengthen(ticks) {
  if
  :: life < ticks -> life = ticks
  :: else
  fi
}

inline drop() {
  value = false;
  content = 0
}

proctype Reader(byte me) {
  do
  :: d_step {
       !flying[me] -> flying[me] = true; read_content[me] = visible; age[me] = 0;
#ifdef PLAIN
       is_plain[me] = true;
#endif
       printf("reader %d selects: contains %d\n", me, visible)
     }
  :: d_step {
       flying[me] ->
       if
       :: is_plain[me] ->
          value = true; content = read_content[me];
          printf("reader %d sets: contains %d\n", me, content);
          check_value()
       :: !is_plain[me] && within(xids | base, read_content[me]) ->
          value = true; content = read_content[me];
          marker = filled; xids = 0; base = content;
#ifdef MARKER_TTL_OF_VALUE
          life = 1;
#elif defined(FILL_KEEPS_LIFE)
          lengthen(1); /* the value's TTL, or what the tombstone had left */
#else
          lengthen(TTL);
#endif
          printf("reader %d fills: contains %d\n", me, content);
          check_value()
       :: else -> reached(1); printf("reader %d is rejected\n", me)
       fi;
       flying[me] = false; is_plain[me] = false; read_content[me] = 0; age[me] = 0
     }
  :: d_step { flying[me] -> flying[me] = false; is_plain[me] = false; read_content[me] = 0; age[me] = 0 }
  od
}

inline log(x) {
  d_step { !(logged & BIT(x)) -> logged = logged | BIT(x); printf("%d is logged\n", BIT(x)) }
}

inline reveal(x) {
  d_step {
    (logged & ~visible & BIT(x)) -> visible = visible | BIT(x);
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

/* The delete for one xid. `late`: it is late enough to be the settle delete too, and the last. */
inline invalidate(x, late) {
  done = late;
  lasting = true;
#ifdef PLAIN
  lasting = false;
  drop();
#else
  if
  :: marker == none -> drop(); marker = tombstone; xids = BIT(x)
  :: marker == tombstone && (xids & BIT(x)) ->
     reached(2);
#ifdef REPLAY_LEFT_ALONE
     lasting = false
#endif
  :: marker == tombstone && !(xids & BIT(x)) -> drop(); xids = xids | BIT(x)
  :: marker == filled ->
     if
     :: base & BIT(x) -> reached(3); /* kept */
#ifdef KEPT_LEFT_ALONE
        lasting = false
#endif
     :: else -> drop(); marker = tombstone; xids = BIT(x)
     fi
  fi;
#endif
  if
  :: lasting -> lengthen(TTL + MARGIN)
  :: else
  fi;
  lasting = false;
  printf("  invalidate %d, late %d: %e xids %d base %d life %d, value %d\n", BIT(x), late, marker, xids, base, life, value)
}

/* The second delete, for the xids in d. */
inline settle(d) {
  drop();
  acknowledged = acknowledged | d;
  held = held & ~d;
  printf("  settle %d\n", d)
}

#ifdef PLAIN

#if defined(SETTLE_FROM_DELETE)
#define may_settle(x) ((seen & BIT(x)) && wrote_for[x] >= SETTLE)
#elif defined(SETTLE_BLINDLY)
#define may_settle(x) (wrote_for[x] >= SETTLE)
#elif defined(NO_SETTLE)
#define may_settle(x) false
#else
#define may_settle(x) (seen_for[x] >= SETTLE)
#endif

/* LEAN: a transaction that is due leaves its settle to another one that is due no earlier: 1, one that was applied and
 * found to need its settle; 2, also one whose first delete is still to come. Two transactions only. */
#ifdef LEAN
byte leaning;
#if LEAN == 1
#define will_settle(y) (held & BIT(y))
#else
#define will_settle(y) (logged & BIT(y))
#endif

inline lean(x, y) {
  d_step {
    !leaning && (held & BIT(x)) && may_settle(x) && (seen & BIT(y)) && seen_for[y] <= seen_for[x] && will_settle(y) ->
    leaning = BIT(x);
    held = held & ~BIT(x);
    printf("  %d leaves its settle to %d\n", BIT(x), BIT(y))
  }
}

inline lean_ends() {
  acknowledged = acknowledged | leaning;
  leaning = 0
}
#endif

inline receive(x) {
  d_step {
    (logged & BIT(x)) ->
    invalidate(x, (seen_for[x] >= SETTLE));
    if
#ifdef NO_SETTLE
    :: true ->
#else
    :: done ->
#endif
       reached(4); acknowledged = acknowledged | BIT(x); held = held & ~BIT(x);
#ifdef LEAN
       lean_ends()
#endif
#ifndef NO_SETTLE
    :: else -> held = held | BIT(x); wrote_for[x] = 0
#endif
    fi;
    done = false;
    check_value()
  }
}

inline finish(x) {
#ifndef COALESCE
  d_step {
    (held & BIT(x)) && may_settle(x) -> settle(BIT(x));
#ifdef LEAN
    lean_ends();
#endif
    check_value()
  }
#else
  false
#endif
}

/* Settling several transactions of the key at once: */
#define is_due(x) ((held & BIT(x)) && may_settle(x))
#define ready(x) (!(together & BIT(x)) || may_settle(x))
#if COALESCE == 1 /* when all that were received are due */
#define together held
#define wait_ends (together && ready(0) && ready(1) && ready(2))
#elif COALESCE == 2 /* when all that were received and seen to be visible are due */
#define together (held & seen)
#define wait_ends (together && ready(0) && ready(1) && ready(2))
#endif

#else /* CHECKED */

inline receive(x) {
  d_step {
    (logged & BIT(x)) ->
    invalidate(x, false);
    done = false;
    held = held | (BIT(x) & ~acknowledged);
    wrote_for[x] = 0;
    renewed = (renewed & ~BIT(x)) | (seen & BIT(x));
    check_value()
  }
}

inline finish(x) {
  d_step {
#ifdef ACK_UNRENEWED
    (held & seen & BIT(x)) ->
#else
    (held & seen & renewed & BIT(x)) ->
#endif
    acknowledged = acknowledged | BIT(x); held = held & ~BIT(x); wrote_for[x] = 0; renewed = renewed & ~BIT(x);
    printf("%d is acknowledged\n", BIT(x))
  }
}

#endif

inline noted(x) {
  if
  :: (held & seen & BIT(x)) && wrote_for[x] <= MARGIN -> renewed = renewed | BIT(x)
  :: else
  fi
}

/* A replay is a receive() of what was received before; in the checked model it is a renewal too. */
proctype Daemon() {
  bool done, lasting;
  do
  :: receive(0)
  :: receive(1)
  :: finish(0)
  :: finish(1)
#if WRITERS > 2
  :: receive(2)
  :: finish(2)
#endif
#ifdef LEAN
  :: lean(0, 1)
  :: lean(1, 0)
#endif
#ifdef COALESCE
  :: d_step { wait_ends -> settle(together); check_value() }
#endif
  :: d_step {
       seen != visible -> seen = visible;
#ifdef CHECKED
       noted(0);
       noted(1);
#if WRITERS > 2
       noted(2);
#endif
#endif
       printf("the daemon's snapshot: %d\n", seen)
     }
#ifndef PROMPT
  :: d_step {
       held != 0 || seen != 0 -> held = 0; seen = 0; renewed = 0;
#ifdef LEAN
       leaning = 0;
#endif
       seen_for[0] = 0; seen_for[1] = 0; wrote_for[0] = 0; wrote_for[1] = 0;
#if WRITERS > 2
       seen_for[2] = 0; wrote_for[2] = 0;
#endif
       printf("the daemon crashes\n")
     }
#endif
  od
}

#define reader_limit(r) (is_plain[r] -> SETTLE : TTL)
#define reader_may_wait(r) (!flying[r] || age[r] + 1 < reader_limit(r))
#if defined(CHECKED) && !defined(NO_RENEW)
#define write_may_wait(x) (!(held & BIT(x)) || wrote_for[x] < RENEW)
#else
#define write_may_wait(x) true
#endif
#if READERS > 1
#define readers_may_wait (reader_may_wait(0) && reader_may_wait(1))
#else
#define readers_may_wait reader_may_wait(0)
#endif
#if WRITERS > 2
#define writes_may_wait (write_may_wait(0) && write_may_wait(1) && write_may_wait(2))
#else
#define writes_may_wait (write_may_wait(0) && write_may_wait(1))
#endif
#ifdef SHOWN_SOON /* no commit hangs */
#define shown (visible == logged)
#else
#define shown true
#endif
#ifndef PROMPT
#define prompt true
#elif defined(COALESCE)
#define prompt (shown && seen == visible && within(logged, held | acknowledged) && !(wait_ends))
#else
#define prompt (shown && seen == visible && within(logged, held | acknowledged) && !is_due(0) && !is_due(1) && !is_due(2))
#endif

inline count(r) {
  if
  :: flying[r] -> age[r]++
  :: else
  fi
}

#ifdef CHECKED
#define WROTE_MAX RENEW
#else
#define WROTE_MAX SETTLE
#endif

inline pass(x) {
  if
  :: (seen & BIT(x)) && seen_for[x] < SETTLE -> seen_for[x]++
  :: else
  fi;
  if
  :: (held & BIT(x)) && wrote_for[x] < WROTE_MAX -> wrote_for[x]++
  :: else
  fi;
#ifdef PROMPT
  if
  :: (visible & BIT(x)) && visible_for[x] <= BOUND -> visible_for[x]++
  :: else
  fi;
  assert(!value || !(visible & ~content & BIT(x)) || visible_for[x] <= BOUND) /* G4 */
#endif
}

proctype Clock() {
  do
  :: d_step {
       prompt && readers_may_wait && writes_may_wait ->
       printf("tick\n");
       count(0);
#if READERS > 1
       count(1);
#endif
       if
       :: life > 1 -> life--
       :: life == 1 -> life = 0; marker = none; xids = 0; base = 0; printf("the marker expires\n"); reached(5)
       :: else
       fi;
       pass(0);
       pass(1);
#if WRITERS > 2
       pass(2);
#endif
     }
  :: d_step { value -> drop(); printf("the value goes\n") }
  od
}

init {
  atomic {
    run Database(); run Daemon(); run Clock(); run Reader(0);
#if READERS > 1
    run Reader(1);
#endif
  }
}
