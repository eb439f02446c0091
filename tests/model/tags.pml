/* Tags, members mode: a tag is a set of keys; invalidating it walks the set (G1, G2, G3, G4). One tag, one key: what
 * the walk does to other members only takes time. SSCAN promises to return a member that is there from begin to end, and
 * may or may not return others: `owed`.
 *
 * CHECKED: readers use the fill function (value, marker and SADD at once). PLAIN: applications, which write
 * as ORDER says: SET_THEN_SADD, SADD_THEN_SET or MULTI (both at once). Time is a contract here: a settle walk starts when its
 * transaction is visible and every reader that selected before is done.
 */
#define WRITERS 2
#ifndef READERS
#define READERS 2
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

/* Redis: the value, its marker, the tag's set and its tombstone. */
bool value, member;
byte content;
mtype = { none, tombstone, filled };
mtype marker = none;
byte xids, base;
byte tag_xids;

/* The daemon. */
byte held, acknowledged;
byte walking;  /* the transaction of the walk under way */
bool settling; /* that walk is the second */
bool owed;     /* the set's only member was there when the walk began and still is */
byte walked;   /* PLAIN: first walk done, settle to come */

byte applied; /* ghost: tag invalidations that fills must know of */

/* Readers. */
bool flying[READERS], half[READERS];
byte read_content[READERS];

inline check_value() {
  assert(!value || within(acknowledged, content));
#ifdef CHECKED
  assert(!value || member)
#else
  /* Stranded: nobody is about to add it, and no invalidation of the tag will find it. */
  assert(!value || member || half[0] || (READERS > 1 && half[READERS - 1]))
#endif
}

inline land(me) {
  flying[me] = false;
  half[me] = false;
  read_content[me] = 0
}

proctype Reader(byte me) {
  do
  :: d_step {
       !flying[me] -> flying[me] = true; read_content[me] = visible;
       printf("reader %d selects: contains %d\n", me, visible)
     }
#ifdef CHECKED
  :: d_step {
       flying[me] ->
       if
       :: within(xids | base | tag_xids, read_content[me]) ->
          value = true; member = true; content = read_content[me];
          marker = filled; xids = 0; base = content;
          printf("reader %d fills: contains %d\n", me, content);
          assert(within(applied, content)); /* G3 */
          check_value()
       :: else -> reached(1); printf("reader %d is rejected\n", me)
       fi;
       land(me)
     }
  :: d_step { flying[me] -> land(me) }
#elif defined(MULTI)
  :: d_step {
       flying[me] -> value = true; member = true; content = read_content[me];
       printf("reader %d sets and adds: contains %d\n", me, content);
       land(me);
       check_value()
     }
  :: d_step { flying[me] -> land(me) }
#elif defined(SADD_THEN_SET)
  :: d_step { flying[me] && !half[me] -> member = true; half[me] = true; printf("reader %d adds\n", me) }
  :: d_step {
       half[me] -> value = true; content = read_content[me];
       printf("reader %d sets: contains %d\n", me, content);
       land(me);
       check_value()
     }
  :: d_step { flying[me] -> land(me); check_value() }
#else /* SET_THEN_SADD */
  :: d_step {
       flying[me] && !half[me] -> value = true; content = read_content[me]; half[me] = true;
       printf("reader %d sets: contains %d\n", me, content);
       check_value()
     }
  :: d_step { half[me] -> member = true; printf("reader %d adds\n", me); land(me); check_value() }
  :: d_step { flying[me] && !half[me] -> land(me) } /* dying between the two commands strands the key: not searched */
#endif
  od
}

inline log(x) {
  d_step { !(logged & BIT(x)) -> logged = logged | BIT(x); printf("%d is logged\n", BIT(x)) }
}

inline reveal(x) {
  d_step { (logged & ~visible & BIT(x)) -> visible = visible | BIT(x); printf("%d is visible\n", BIT(x)) }
}

proctype Database() {
  do
  :: log(0)
  :: log(1)
  :: reveal(0)
  :: reveal(1)
  od
}

inline tomb_the_tag() {
#ifndef NO_TAG_TOMBSTONE
  tag_xids = tag_xids | walking;
#endif
  applied = applied | walking
}

inline begin(x) {
  d_step {
    (logged & BIT(x)) && !walking ->
    if
#ifdef TAG_REPLAY_SKIPS
    :: tag_xids & BIT(x) -> held = held | (BIT(x) & ~acknowledged); walked = walked | BIT(x)
#endif
    :: else ->
       walking = BIT(x); settling = false; owed = member;
       held = held | (BIT(x) & ~acknowledged);
#ifndef TAG_TOMBSTONE_LAST
       tomb_the_tag();
#endif
       printf("walk for %d\n", walking)
    fi
  }
}

#ifdef PLAIN
#define done_with(r, x) (!flying[r] || (read_content[r] & BIT(x)))
#if READERS > 1
#define past(x) ((visible & BIT(x)) && done_with(0, x) && done_with(1, x))
#else
#define past(x) ((visible & BIT(x)) && done_with(0, x))
#endif

inline begin_settle(x) {
  d_step {
    (walked & held & BIT(x)) && !walking && past(x) ->
    walking = BIT(x); settling = true; owed = member;
    printf("settle walk for %d\n", walking)
  }
}
#endif

/* The member's script: the key's table, and SREM of a member that has no value left. */
inline visit() {
  d_step {
    walking && member ->
    reached(2);
    if
    :: settling -> value = false; content = 0
    :: !settling && marker == tombstone && within(walking, xids) -> reached(3) /* replayed */
#ifdef CHECKED
    :: !settling && marker == filled && within(walking, base) -> reached(4) /* kept */
#endif
    :: else ->
#ifdef CHECKED
       assert(!value || !within(walking, applied & acknowledged)); /* G2 */
#endif
       value = false; content = 0;
#ifdef NO_MEMBER_TOMBSTONE
       skip
#else
       xids = xids | walking;
       marker = tombstone
#endif
    fi;
    owed = false;
#if defined(SREM_APART)
    srem = !value;
#elif defined(SREM_ALWAYS)
    member = false;
#elif defined(SREM_AT_SETTLE)
    if
    :: settling && !value -> member = false
    :: else
    fi;
#elif !defined(NEVER_SREM)
    if
    :: !value -> member = false
    :: else
    fi;
#endif
    check_value();
    printf("  visit for %d: value %d member %d, %e xids %d base %d\n", walking, value, member, marker, xids, base)
  }
}

proctype Daemon() {
  bool srem;
  do
  :: begin(0)
  :: begin(1)
#ifdef PLAIN
  :: begin_settle(0)
  :: begin_settle(1)
#endif
  :: visit()
#ifdef SREM_APART
  :: d_step { srem -> srem = false; member = false; owed = false; printf("  srem\n"); check_value() }
#endif
  :: d_step {
       walking && !owed && !srem ->
#ifdef TAG_TOMBSTONE_LAST
       tomb_the_tag();
#endif
       printf("the walk for %d ends\n", walking);
#ifdef PLAIN
       if
#ifdef NO_SETTLE_WALK
       :: true -> acknowledged = acknowledged | walking; held = held & ~walking
#else
       :: settling -> acknowledged = acknowledged | walking; held = held & ~walking; walked = walked & ~walking
       :: else -> walked = walked | (walking & held)
#endif
       fi;
#else
       walked = walked | (walking & held);
#endif
       walking = 0; settling = false;
       check_value()
     }
#ifdef CHECKED
  :: d_step {
       (walked & held & visible) != 0 ->
       acknowledged = acknowledged | (walked & held & visible);
       held = held & ~acknowledged; walked = walked & ~acknowledged;
       printf("acknowledged: %d\n", acknowledged);
       check_value()
     }
#endif
  :: d_step { held != 0 || walking != 0 -> held = 0; walking = 0; settling = false; walked = 0; owed = false; srem = false; printf("the daemon crashes\n") }
  od
}

/* Markers expire as in checked.pml; values go at any time and leave a dead member. */
#ifdef CHECKED
#define due (applied & (acknowledged | held))
#define ready(r) (!flying[r] || within(due, read_content[r]))
#if READERS > 1
#define over (within(due, visible) && ready(0) && ready(1))
#else
#define over (within(due, visible) && ready(0))
#endif
#else
#define over true
#endif

proctype Time() {
  do
  :: d_step { value -> value = false; content = 0; printf("the value goes\n") }
  :: d_step { marker != none && !value && over -> marker = none; xids = 0; base = 0; printf("the marker expires\n") }
  :: d_step {
       tag_xids && over -> reached(5);
       tag_xids = 0;
       applied = applied & (acknowledged | held);
       printf("the tag's tombstone expires\n")
     }
  od
}

init {
  atomic {
    run Database(); run Daemon(); run Time(); run Reader(0);
#if READERS > 1
    run Reader(1);
#endif
  }
}
