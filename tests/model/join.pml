/* Tags on a cluster (G1, G3): the tag, with its tombstone and its members, is in one slot, the key with its value and its marker
 * in another, so nothing is atomic over both. A reader selects, joins the tag (evictd_join), and fills (evictd_fill), each
 * when it likes. An invalidation writes the tag's tombstone, reads the members, and invalidates those it found, in three
 * steps. What is searched: that the tombstone comes first, that a join looks at it, that a walk leaves a tombstone on
 * members without a value as well, and that nobody takes a membership away that a fill may count on.
 */
#define WRITERS 2
#ifndef READERS
#define READERS 2
#endif

#define BIT(x) (1 << (x))
#define within(part, whole) (((part) & ~(whole)) == 0)

#ifdef REACH
#define reached(n) assert(n != REACH)
#else
#define reached(n) skip
#endif

#ifdef JOIN_UNCHECKED
#define looks_at_tombstone false
#else
#define looks_at_tombstone true
#endif

/* The database. */
byte logged, visible;

/* The key's slot. */
bool value;
byte content;
mtype = { none, tombstone, filled };
mtype marker = none;
byte xids, base;

/* The tag's slot. */
bool member;
byte tag_xids;

/* The daemon. */
byte held, walked, acknowledged;
byte walking; /* the transaction of the walk under way */
mtype = { idle, begun, scanned };
mtype stage = idle;
bool found;   /* the key was among the members that were read */

byte applied; /* ghost: invalidations whose walk has ended */

/* Readers. */
mtype = { away, selected, joined };
mtype reader[READERS];
byte read_content[READERS];

inline check_value() {
  assert(!value || within(acknowledged, content));
  assert(!value || within(applied, content)); /* G3: whatever is applied is gone */
  assert(!value || member)                    /* or no invalidation of the tag finds it */
}

inline land(me) {
  reader[me] = away;
  read_content[me] = 0
}

proctype Reader(byte me) {
  do
  :: d_step {
       reader[me] == away -> reader[me] = selected; read_content[me] = visible;
       printf("reader %d selects: contains %d\n", me, visible)
     }
  :: d_step {
       reader[me] == selected ->
       if
       :: !looks_at_tombstone || within(tag_xids, read_content[me]) ->
          member = true; reader[me] = joined; printf("reader %d joins\n", me)
       :: else -> reached(1); printf("reader %d may not join\n", me); land(me)
       fi
     }
  :: d_step {
       reader[me] == joined ->
       if
       :: within(xids | base, read_content[me]) ->
          value = true; content = read_content[me]; marker = filled; xids = 0; base = content;
          printf("reader %d fills: contains %d\n", me, content);
          check_value()
       :: else -> reached(2); printf("reader %d is rejected\n", me)
       fi;
       land(me)
     }
  :: d_step { reader[me] != away -> printf("reader %d gives up\n", me); land(me) }
  od
}

proctype Database() {
  do
  :: d_step { !(logged & BIT(0)) -> logged = logged | BIT(0); printf("commit 0\n") }
  :: d_step { !(logged & BIT(1)) -> logged = logged | BIT(1); printf("commit 1\n") }
  :: d_step { (logged & BIT(0)) && !(visible & BIT(0)) -> visible = visible | BIT(0); printf("0 is visible\n") }
  :: d_step { (logged & BIT(1)) && !(visible & BIT(1)) -> visible = visible | BIT(1); printf("1 is visible\n") }
  od
}

inline begin(x) {
  d_step {
    (logged & ~acknowledged & ~walked & BIT(x)) && stage == idle ->
    walking = BIT(x); held = held | BIT(x); stage = begun;
#ifndef TAG_TOMBSTONE_LAST
    tag_xids = tag_xids | walking;
#endif
    printf("walk for %d\n", walking)
  }
}

proctype Daemon() {
  do
  :: begin(0)
  :: begin(1)
  :: d_step { stage == begun -> found = member; stage = scanned; printf("  members: %d\n", member) }
  :: d_step {
       stage == scanned && found ->
       if
       :: marker == filled && within(walking, base) -> reached(3) /* kept */
#ifdef NO_MEMBER_TOMBSTONE
       :: !value -> skip
#endif
       :: else -> reached(4); value = false; content = 0; xids = xids | walking; marker = tombstone
       fi;
       found = false;
#ifdef WALK_TAKES_MEMBERS
       if
       :: !value -> member = false
       :: else
       fi;
#endif
       check_value();
       printf("  visit: value %d member %d, %e xids %d base %d\n", value, member, marker, xids, base)
     }
  :: d_step {
       stage == scanned && !found ->
#ifdef TAG_TOMBSTONE_LAST
       tag_xids = tag_xids | walking;
#endif
       printf("the walk for %d ends\n", walking);
       applied = applied | walking; walked = walked | walking;
       stage = idle; walking = 0;
       check_value()
     }
  :: d_step { /* tombstones are renewed until the transaction is visible */
       (walked & held & visible) != 0 ->
       acknowledged = acknowledged | (walked & held & visible);
       held = held & ~acknowledged; walked = walked & ~acknowledged;
       printf("acknowledged: %d\n", acknowledged);
       check_value()
     }
  :: d_step {
       /* what is not acknowledged is done again; until then its tombstones are not renewed */
       held != 0 -> applied = applied & acknowledged; held = 0; walked = 0; walking = 0; stage = idle; found = false;
       printf("the daemon crashes\n")
     }
  od
}

/* Tombstones live until nobody flies who has not seen their transactions; a membership until nobody counts on it. */
#define due ((applied | walking) & (acknowledged | held))
#define ready(r) (reader[r] == away || within(due, read_content[r]))
#define counts(r) (reader[r] == joined)
#if READERS > 1
#define over (within(due, visible) && ready(0) && ready(1))
#define counted_on (counts(0) || counts(1))
#else
#define over (within(due, visible) && ready(0))
#define counted_on counts(0)
#endif

proctype Time() {
  do
  :: d_step { value -> value = false; content = 0; printf("the value goes\n") }
  :: d_step { marker != none && !value && over -> marker = none; xids = 0; base = 0; printf("the marker expires\n") }
  :: d_step {
       tag_xids && over && stage == idle -> reached(5);
       tag_xids = 0; applied = applied & (acknowledged | held);
       printf("the tag's tombstone expires\n")
     }
#ifdef ENDS_WITH_THE_VALUE
  :: d_step { member && !value -> member = false; printf("the membership ends\n") }
#else
  :: d_step { member && !value && !counted_on -> reached(6); member = false; printf("the membership ends\n") }
#endif
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
