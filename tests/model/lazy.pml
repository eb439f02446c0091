/* Tags, lazy mode: an invalidation writes the tag's tombstone only; a value remembers its snapshot and evictd_get
 * calls it stale when something in the tombstone is not visible in it. One tag, one key. The claim: what
 * evictd_get calls fresh is never older than an invalidation of the tag (G3).
 *
 * The tag's tombstone must outlive every value that carries the tag, so a fill makes the tag's marker last as long as the
 * value, creating an empty one where there is none (`guards`); tombstone_ttl alone is not enough (TTL_ONLY).
 */
#ifndef WRITERS
#define WRITERS 3
#endif
#ifndef READERS
#define READERS 2
#endif
#ifndef CAP
#define CAP WRITERS
#endif

#define BIT(x) (1 << (x))
#define ALL (BIT(WRITERS) - 1)
#define within(part, whole) (((part) & ~(whole)) == 0)
#define below(set) ((~(set) & ((set) + 1)) - 1)
#define up_to(top) ((top) * 2 - ((top) != 0))

#ifdef REACH
#define reached(n) assert(n != REACH)
#else
#define reached(n) skip
#endif

byte logged, visible;

/* Redis: the value with the snapshot in its marker; the tag's marker. */
bool value;
byte content, snapshot;
bool tag_there; /* the tag's marker exists, if only as an empty one */
byte tag_xids, tag_floor;
bool guards;    /* it lives at least as long as the value */

byte held, acknowledged;
byte applied; /* ghost */

bool flying[READERS];
byte read_content[READERS], token[READERS];

#define tag_needs (tag_xids | up_to(tag_floor))
#define fresh (value && within(tag_needs, snapshot))

inline check_get() {
  assert(!fresh || within(applied, content)) /* G3 */
}

inline shrink() {
  n = 0;
  w = 0;
  do
  :: w < WRITERS -> n = n + ((tag_xids >> w) & 1); w++
  :: else -> break
  od;
  do
  :: n > CAP ->
     reached(1);
     w = tag_xids & ~(tag_xids - 1);
     tag_xids = tag_xids & ~w;
     n--;
#ifndef NO_FLOOR
     if
     :: w > tag_floor -> tag_floor = w
     :: else
     fi
#endif
  :: else -> break
  od;
  w = 0;
  n = 0
}

proctype Reader(byte me) {
  do
  :: d_step {
       !flying[me] -> flying[me] = true; read_content[me] = visible; token[me] = visible;
       printf("reader %d selects: contains %d\n", me, visible)
     }
  :: d_step {
       !flying[me] -> flying[me] = true; read_content[me] = visible; token[me] = below(visible);
       printf("reader %d selects: contains %d, proves %d\n", me, visible, token[me])
     }
  :: d_step {
       flying[me] ->
       if
       :: within(tag_needs, token[me]) && (!value || within(snapshot, token[me]) || !fresh) ->
          value = true; content = read_content[me]; snapshot = token[me];
#ifdef TTL_ONLY
          skip;
#elif defined(FILL_ONLY_EXTENDS)
          guards = tag_there;
#else
          tag_there = true; guards = true;
#endif
          reached(2);
          printf("reader %d fills: contains %d\n", me, content);
          check_get()
       :: else -> reached(3); printf("reader %d is rejected\n", me)
       fi;
       flying[me] = false; read_content[me] = 0; token[me] = 0
     }
  :: d_step { flying[me] -> flying[me] = false; read_content[me] = 0; token[me] = 0 }
  od
}

inline log(x) {
  d_step { within(BIT(x), ALL & ~logged) -> logged = logged | BIT(x); printf("%d is logged\n", BIT(x)) }
}

inline reveal(x) {
  d_step { within(BIT(x), logged & ~visible) -> visible = visible | BIT(x); printf("%d is visible\n", BIT(x)) }
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

inline invalidate(x) {
  d_step {
    (logged & BIT(x)) ->
    if
    :: tag_xids & BIT(x) -> reached(4)
    :: else -> tag_xids = tag_xids | BIT(x); tag_there = true; shrink()
    fi;
    applied = applied | BIT(x);
    held = held | (BIT(x) & ~acknowledged);
    if
    :: value && !fresh -> reached(5)
    :: else
    fi;
    printf("  invalidate %d: tag xids %d floor %d\n", BIT(x), tag_xids, tag_floor);
    check_get()
  }
}

proctype Daemon() {
  byte n, w;
  do
  :: invalidate(0)
  :: invalidate(1)
#if WRITERS > 2
  :: invalidate(2)
#endif
  :: d_step { (held & visible) != 0 -> acknowledged = acknowledged | (held & visible); held = held & ~visible; printf("acknowledged: %d\n", acknowledged) }
  :: d_step { held != 0 -> held = 0; printf("the daemon crashes\n") }
  od
}

#define due (applied & (acknowledged | held))
#define ready(r) (!flying[r] || within(due, read_content[r]))
#if READERS > 1
#define over (within(due, visible) && ready(0) && ready(1))
#else
#define over (within(due, visible) && ready(0))
#endif

proctype Time() {
  do
  :: d_step { value -> value = false; content = 0; snapshot = 0; guards = false; printf("the value goes\n") }
  :: d_step {
       tag_there && !(guards && value) && over ->
       reached(6);
       tag_there = false; tag_xids = 0; tag_floor = 0; guards = false;
       applied = due;
       printf("the tag's marker expires\n");
       check_get()
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
