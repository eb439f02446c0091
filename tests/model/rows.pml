/* Row versions (sources without reader snapshots, G3): a fill carries the version of the row it was made from.
 *
 * One row lives through EVENTS inserts, updates and deletes, one after the other (its lock sees to that); a value
 * is represented by how many of them it has seen. Events are delivered in any order, again and again; readers read the
 * primary or a replica that lags. TWO_ROWS makes the key depend on two rows instead, whose updates overlap.
 */
#ifndef EVENTS
#define EVENTS 4
#endif
#ifndef READERS
#define READERS 2
#endif
#define BIT(x) (1 << (x))

#ifdef REACH
#define reached(n) assert(n != REACH)
#else
#define reached(n) skip
#endif

/* The database: after event e the row is alive[e] with version[e]. */
byte logged, visible, replica;
byte version[EVENTS + 1];
bool alive[EVENTS + 1];

mtype = { none, tombstone, filled };
mtype marker = none;
byte number; /* of the tombstone or of the fill */
bool strict; /* the tombstone is of a DELETE: only a newer version passes */
bool value;
byte content;

byte applied, held, acknowledged; /* masks of events */

bool flying[READERS];
byte read_content[READERS], token[READERS];

#ifdef TWO_ROWS
/* content and visible are masks of the two updates, whose timestamps are 1 and 2. */
#define misses(set, of) (((set) & ~(of)) != 0)
#else
#define misses(set, of) ((set) >> ((of) + 1)) /* an event later than number `of` */
#endif

inline check_value() {
  assert(!value || !misses(applied, content)) /* G3 */
}

inline take(me, c, v) {
  flying[me] = true;
  read_content[me] = c;
  token[me] = v;
  printf("reader %d selects: contains %d, version %d\n", me, c, v)
}

inline land(me) {
  flying[me] = false;
  read_content[me] = 0;
  token[me] = 0
}

#define passes(v) ((v) > number || ((v) == number && !strict))

proctype Reader(byte me) {
  do
#ifdef TWO_ROWS
  :: d_step { !flying[me] -> take(me, visible, ((visible & 4) -> 2 : ((visible & 2) -> 1 : 0))) }
#else
  :: d_step { !flying[me] && alive[visible] -> take(me, visible, version[visible]) }
  :: d_step { !flying[me] && alive[replica] && replica != visible -> take(me, replica, version[replica]) }
#endif
  :: d_step {
       flying[me] ->
       if
       :: marker == none || passes(token[me]) ->
          value = true; content = read_content[me]; marker = filled; number = token[me]; strict = false;
          reached(1);
          printf("reader %d fills: contains %d\n", me, content);
          check_value()
       :: else -> reached(2); printf("reader %d is rejected\n", me)
       fi;
       land(me)
     }
  :: d_step { flying[me] -> land(me) }
  od
}

proctype Database() {
  do
#ifdef TWO_ROWS
  :: d_step { !(logged & 2) -> logged = logged | 2; version[1] = 1; alive[1] = true; printf("row A is written at time 1\n") }
  :: d_step { !(logged & 4) -> logged = logged | 4; version[2] = 2; alive[2] = true; printf("row B is written at time 2\n") }
  :: d_step { (logged & ~visible & 2) -> visible = visible | 2; printf("A is visible\n") }
  :: d_step { (logged & ~visible & 4) -> visible = visible | 4; printf("B is visible\n") }
#else
  :: d_step {
       logged == visible && logged < EVENTS ->
       logged++; alive[logged] = true;
#ifdef RESTARTS
       version[logged] = (alive[logged - 1] -> version[logged - 1] + 1 : 1);
#else
       version[logged] = version[logged - 1] + 1;
#endif
       printf("event %d: version %d\n", logged, version[logged])
     }
  :: d_step {
       logged == visible && logged < EVENTS && alive[visible] ->
       logged++; version[logged] = version[logged - 1];
       printf("event %d: delete of version %d\n", logged, version[logged])
     }
  :: d_step { visible < logged -> visible++; printf("event %d is visible\n", visible) }
  :: d_step { replica < visible -> replica++; printf("the replica replays event %d\n", replica) }
#endif
  od
}

inline invalidate(e) {
#ifdef DELETE_LIKE_UPDATE
  gone = false;
#else
  gone = !alive[e];
#endif
  if
  :: marker == none || version[e] > number || (version[e] == number && gone && !strict) ->
     value = false; content = 0; marker = tombstone; number = version[e]; strict = gone
  :: else -> reached(3) /* kept, replayed, or overtaken */
  fi;
  gone = false;
  applied = applied | BIT(e);
  held = held | (BIT(e) & ~acknowledged);
  printf("  invalidate event %d: %e %d strict %d, value %d\n", e, marker, number, strict, value);
  check_value()
}

#ifdef TWO_ROWS
#define was_logged(e) ((logged >> (e)) & 1)
#define seen visible
#else
#define was_logged(e) ((e) <= logged)
#define seen (BIT(visible + 1) - 1)
#endif

proctype Daemon() {
  bool gone;
  do
  :: d_step { was_logged(1) -> invalidate(1) }
  :: d_step { was_logged(2) -> invalidate(2) }
#if EVENTS > 2
  :: d_step { was_logged(3) -> invalidate(3) }
#endif
#if EVENTS > 3
  :: d_step { was_logged(4) -> invalidate(4) }
#endif
  :: d_step { (held & seen) != 0 -> acknowledged = acknowledged | (held & seen); held = held & ~acknowledged; printf("acknowledged: %d\n", acknowledged) }
  :: d_step { held != 0 -> held = 0; printf("the daemon crashes\n") }
  od
}

#define due (applied & (acknowledged | held))
#define ready(r) (!flying[r] || !misses(due, read_content[r]))
#ifdef TWO_ROWS
#define everywhere visible
#else
#define everywhere replica
#endif

proctype Time() {
  do
  :: d_step { value -> value = false; content = 0; printf("the value goes\n") }
  :: d_step {
       marker != none && !value && !misses(due, everywhere) && ready(0) && ready(READERS - 1) ->
       reached(4);
       marker = none; number = 0; strict = false; applied = due;
       printf("the marker expires\n")
     }
  od
}

init {
  atomic {
    alive[0] = true;
    run Database(); run Daemon(); run Time(); run Reader(0);
#if READERS > 1
    run Reader(1);
#endif
  }
}
