/* Leases under `fill: plain` (sources without snapshots): a miss gives one caller a lease, and only a held lease may fill. A
 * delete leaves it alone. A lease that is shorter than `settle` is over by the time of the settle whenever its reader may have
 * read before the commit was visible, and then nothing depends on how long a reader takes (G1, G4).
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

byte logged, visible;

bool value;
byte content;
byte lease;   /* who holds it, 0 nobody; an old holder's number never comes again */
byte held, acknowledged;

bool asked[READERS], selected[READERS]; /* holds, or thinks it holds, a lease; has read the row */
byte read_content[READERS];

inline check_value() {
  assert(!value || within(acknowledged, content))
}

inline land(me) {
  asked[me] = false;
  selected[me] = false;
  read_content[me] = 0
}

proctype Reader(byte me) {
  do
  :: d_step { !asked[me] && !value && lease == 0 -> lease = me + 1; asked[me] = true; printf("reader %d misses and has the lease\n", me) }
  :: d_step { asked[me] && !selected[me] -> selected[me] = true; read_content[me] = visible; printf("reader %d selects: contains %d\n", me, visible) }
  :: d_step {
       selected[me] ->
       if
       :: lease == me + 1 ->
          value = true; content = read_content[me]; lease = 0;
          reached(1);
          printf("reader %d fills: contains %d\n", me, content);
          check_value()
       :: else -> reached(2); printf("reader %d is rejected\n", me)
       fi;
       land(me)
     }
  :: d_step { asked[me] -> land(me); if :: lease == me + 1 -> lease = 0 :: else fi } /* dies; its lease times out */
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

inline invalidate(x) {
  d_step {
    (logged & BIT(x)) ->
    value = false; content = 0;
    printf("  invalidate %d\n", BIT(x));
#ifdef LEASE_ALONE
    acknowledged = acknowledged | BIT(x);
#else
    held = held | BIT(x);
#endif
    check_value()
  }
}

/* Holds a lease, and has read what lacks x. */
#define has_old(r, x) (selected[r] && lease == (r) + 1 && !(read_content[r] & BIT(x)))
#ifdef LONG_LEASE
#define leases_are_over(x) true
#elif READERS > 1
#define leases_are_over(x) (!has_old(0, x) && !has_old(1, x))
#else
#define leases_are_over(x) (!has_old(0, x))
#endif

inline settle(x) {
  d_step {
    (held & visible & BIT(x)) && leases_are_over(x) ->
    value = false; content = 0;
    held = held & ~BIT(x);
    acknowledged = acknowledged | BIT(x);
    reached(3);
    printf("  settle %d\n", BIT(x));
    check_value()
  }
}

proctype Daemon() {
  do
  :: invalidate(0)
  :: invalidate(1)
  :: settle(0)
  :: settle(1)
  :: d_step { held != 0 -> held = 0; printf("the daemon crashes\n") }
  od
}

proctype Time() {
  do
  :: d_step { value -> value = false; content = 0; printf("the value goes\n") }
  :: d_step { lease != 0 -> lease = 0; printf("the lease ends\n") }
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
