/* Keys of joined tables (G10, G1): what a changed row leads to is looked up in a snapshot, which may know later changes of the
 * joined row and may not know its former values. One item belongs to an order, and the order to a user; a key lists the items
 * of one user.
 *
 *   transaction 0 gives the item to another order (from A, of user 0, to B, of user 2): both orders are looked up
 *   transaction 1 gives order A to another user (from 0 to 1): the rule that `via` implies, from its event alone
 *
 * With MIXED, a key is of one user and one kind of item: 0 changes the item's kind, 1 the order's user, and each of them needs
 * a column of the other's row.
 *
 * What is searched: that the lookup waits until its transaction is visible, that the former user is deleted too, and that a
 * template may not mix tables. Markers never expire here; checked.pml has their lives.
 */
#ifndef READERS
#define READERS 2
#endif
#define KEYS 4

#define BIT(x) (1 << (x))
#define within(part, whole) (((part) & ~(whole)) == 0)
#define has(set, x) (((set) >> (x)) & 1)

#ifdef REACH
#define reached(n) assert(n != REACH)
#else
#define reached(n) skip
#endif

#ifdef MIXED
/* user and kind of the item in a snapshot; the keys that 0 and 1 find in one */
#define lists(k, set) ((k) == 2 * has(set, 1) + has(set, 0))
#define found_by_0(set) (3 << (2 * has(set, 1)))
#define found_by_1(set) (BIT(has(set, 0)) | BIT(2 + has(set, 0)))
#else
#define lists(k, set) ((has(set, 0) && (k) == 2) || (!has(set, 0) && (k) == has(set, 1)))
#define found_by_0(set) (BIT(has(set, 1)) | BIT(2))
#ifdef NO_FORMER
#define found_by_1(set) BIT(1)
#else
#define found_by_1(set) (BIT(0) | BIT(1))
#endif
#endif

/* The database. */
byte logged, visible;

/* The cache, by key. */
bool value[KEYS];
byte content[KEYS];
byte xids[KEYS], base[KEYS];

/* The daemon, by transaction. */
bool is_found[2], is_applied[2];
byte found[2];
byte acknowledged;

/* Readers. */
bool selected[READERS];
byte key[READERS], read_content[READERS];

byte k; /* of loops */

/* Once all that can be seen is acknowledged, a value that lacks some of it must at least be what it would be with it. (Before,
 * a former user's key may wait for the other transaction, which names it.) */
inline check_values() {
  k = 0;
  do
  :: k < KEYS -> assert(!value[k] || acknowledged != visible || lists(k, content[k]) == lists(k, content[k] | acknowledged)); k++
  :: else -> break
  od;
  k = 0
}

proctype Reader(byte me) {
  byte which;
  do
  :: d_step { !selected[me] -> selected[me] = true; read_content[me] = visible; key[me] = 0 }
  :: d_step { selected[me] && key[me] < KEYS - 1 -> key[me]++ }
  :: d_step {
       selected[me] ->
       which = key[me];
       if
       :: within(xids[which] | base[which], read_content[me]) ->
          value[which] = true; content[which] = read_content[me]; base[which] = read_content[me]; xids[which] = 0;
          printf("reader %d fills key %d: contains %d\n", me, which, read_content[me]);
          check_values()
       :: else -> reached(1); printf("reader %d is rejected\n", me)
       fi;
       selected[me] = false; read_content[me] = 0; key[me] = 0; which = 0
     }
  od
}

proctype Database() {
  do
  :: d_step { !has(logged, 0) -> logged = logged | 1; printf("commit 0\n") }
  :: d_step { !has(logged, 1) -> logged = logged | 2; printf("commit 1\n") }
  :: d_step { has(logged, 0) && !has(visible, 0) -> visible = visible | 1; printf("0 is visible\n") }
  :: d_step { has(logged, 1) && !has(visible, 1) -> visible = visible | 2; printf("1 is visible\n") }
  od
}

#ifdef LOOKED_UP_EARLY
#define may_look_up(x) has(logged, x)
#else
#define may_look_up(x) (has(logged, x) && has(visible, x))
#endif

inline look_up(x, keys) {
  d_step {
    !has(acknowledged, x) && !is_found[x] && may_look_up(x) ->
    is_found[x] = true; found[x] = keys;
    if
    :: x == 0 && has(visible, 1) -> reached(2) /* ahead of the stream */
    :: else
    fi;
    printf("%d looks up: keys %d\n", x, keys)
  }
}

inline apply(x) {
  d_step {
    is_found[x] && !is_applied[x] ->
    k = 0;
    do
    :: k < KEYS ->
       if
       :: has(found[x], k) && !has(base[k], x) -> value[k] = false; content[k] = 0; xids[k] = xids[k] | BIT(x)
       :: has(found[x], k) && has(base[k], x) -> reached(3) /* kept */
       :: else
       fi;
       k++
    :: else -> break
    od;
    k = 0;
    is_applied[x] = true;
    printf("%d is applied\n", x)
  }
}

inline acknowledge(x) {
  d_step {
    is_applied[x] && has(visible, x) ->
    acknowledged = acknowledged | BIT(x); is_found[x] = false; is_applied[x] = false; found[x] = 0;
    printf("acknowledged: %d\n", acknowledged);
    check_values()
  }
}

proctype Daemon() {
  do
  :: look_up(0, found_by_0(visible))
  :: look_up(1, found_by_1(visible))
  :: apply(0)
  :: apply(1)
  :: acknowledge(0)
  :: acknowledge(1)
  :: d_step {
       is_found[0] || is_found[1] ->
       is_found[0] = false; is_found[1] = false; is_applied[0] = false; is_applied[1] = false; found[0] = 0; found[1] = 0;
       printf("the daemon crashes\n")
     }
  od
}

/* Values go whenever they like. */
proctype Time() {
  do
  :: d_step { value[0] -> value[0] = false; content[0] = 0 }
  :: d_step { value[1] -> value[1] = false; content[1] = 0 }
  :: d_step { value[2] -> value[2] = false; content[2] = 0 }
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
