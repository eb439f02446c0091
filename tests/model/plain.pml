/* Replays under `fill: plain`: no marker stands in the cache, so what was done before is known by positions alone.
 *
 * One stream, transactions 0 .. N-1 in its order; a position is how many of them lie before it. First deletes may be answered
 * in any order, settles too. The record goes into the cache beside the values: `rec_applied`, how far every first delete is
 * done, and `rec_acked`, how far everything is. It is written before the source is told. The daemon may crash at any
 * moment, the source's connection may break, and the cache may come back without what followed its last record.
 *
 * Asserted: a value contains whatever was acknowledged to the source (G1, and G4 in the end); a first delete is never
 * made for what is on record as applied (G2).
 */
#ifndef N
#define N 3
#endif
#define BIT(x) (1 << (x))
#define below(n) (BIT(n) - 1)
#define within(part, whole) (((part) & ~(whole)) == 0)

#ifdef REACH
#define reached(n) assert(n != REACH)
#else
#define reached(n) skip
#endif

byte logged;   /* how many */
byte visible;  /* which */
byte confirmed; /* told to the source; it sends again from there */

/* The cache, and what it was when its last record was stored. */
bool value, old_value;
byte content, old_content, rec_applied, rec_acked;

/* The daemon. Masks of this connection; what lies below `confirmed` is in both. */
byte next;              /* received */
byte done, settled;
byte known_applied, known_acked; /* of earlier connections, and processes by their record */
byte may_tell;          /* on record, and heard to be */
bool hole;              /* the cache lost something: nothing of this connection is told to be done any more */

bool flying;
byte read_content;

byte p; /* scratch */
inline prefix(mask) {
  p = 0;
  do
  :: p < N && (mask & BIT(p)) -> p++
  :: else -> break
  od
}

inline larger(a, b) {
  if
  :: b > a -> a = b
  :: else
  fi
}

inline check_value() {
  assert(!value || within(below(confirmed), content))
}

inline drop() {
  value = false;
  content = 0
}

inline connect() {
  next = confirmed;
  done = below(confirmed);
  settled = below(confirmed);
  may_tell = 0;
  hole = false
}

proctype World() {
  do
  :: d_step { logged < N -> logged++; printf("%d is logged\n", logged - 1) }
  :: d_step { (logged > 0 && !(visible & BIT(0))) -> visible = visible | BIT(0) }
  :: d_step { (logged > 1 && !(visible & BIT(1))) -> visible = visible | BIT(1) }
#if N > 2
  :: d_step { (logged > 2 && !(visible & BIT(2))) -> visible = visible | BIT(2) }
#endif
  :: d_step { value -> drop(); printf("the value goes\n") }
  :: d_step { !flying -> flying = true; read_content = visible; printf("the reader selects %d\n", visible) }
  :: d_step {
       flying -> flying = false; value = true; content = read_content; read_content = 0;
       printf("the reader sets %d\n", content);
       check_value()
     }
  :: d_step { flying -> flying = false; read_content = 0 }
  od
}

inline apply(x) {
  d_step {
    x < next && !(done & BIT(x)) ->
    assert(x >= rec_applied);
    drop();
    done = done | BIT(x);
    printf("  delete for %d\n", x)
  }
}

/* A reader that selected before it was visible is done by then: it takes less than `settle`. */
inline settle(x) {
  d_step {
    (done & ~settled & visible & BIT(x)) && (!flying || (read_content & BIT(x))) ->
    drop();
    settled = settled | BIT(x);
    printf("  settle %d\n", x)
  }
}

proctype Daemon() {
  do
  :: d_step {
       next < logged ->
       if
       :: next < known_acked -> reached(1); done = done | BIT(next); settled = settled | BIT(next)
#ifdef REPLAYS_OWE_NOTHING
       :: next >= known_acked && next < known_applied -> done = done | BIT(next); settled = settled | BIT(next)
#elif !defined(REPLAYS_DELETE)
       :: next >= known_acked && next < known_applied -> reached(2); done = done | BIT(next)
#endif
       :: else
       fi;
       next++;
       printf("%d is received, done %d, settled %d\n", next - 1, done, settled)
     }
  :: apply(0)
  :: apply(1)
  :: settle(0)
  :: settle(1)
#if N > 2
  :: apply(2)
  :: settle(2)
#endif
  :: d_step { /* the record */
       true ->
       if
       :: !hole ->
#ifdef APPLIED_TOO_EARLY
          p = next;
#else
          prefix(done);
#endif
          larger(known_applied, p);
          prefix(settled);
          larger(known_acked, p)
       :: else -> reached(3)
       fi;
       larger(rec_applied, known_applied);
       larger(rec_acked, known_acked);
       p = 0;
       old_value = value;
       old_content = content;
       printf("on record: applied %d, acknowledged %d\n", rec_applied, rec_acked)
     }
#ifdef TELL_BEFORE_RECORD
  :: d_step { !hole -> prefix(settled); larger(confirmed, p); p = 0; check_value() }
#endif
  :: d_step { may_tell < rec_acked && !hole -> may_tell = rec_acked }
  :: d_step { confirmed < may_tell -> confirmed = may_tell; printf("acknowledged %d\n", confirmed); check_value() }
  :: d_step { /* the connection to the source breaks */
       true ->
       if
       :: !hole ->
          prefix(done);
          larger(known_applied, p);
          prefix(settled);
          larger(known_acked, p);
          p = 0
       :: else
       fi;
       connect();
       printf("connected again\n")
     }
  :: d_step { /* kill -9 */
       true -> connect();
       known_applied = rec_applied;
       known_acked = rec_acked;
       printf("the daemon is another process\n")
     }
  :: d_step { /* the cache lost what followed its last record */
       true ->
       value = old_value;
       content = old_content;
#ifndef NOT_FORGOTTEN
       known_applied = rec_applied;
       known_acked = rec_acked;
#endif
#ifndef NO_HOLE
       hole = true;
#endif
       may_tell = 0;
       reached(4);
       printf("the cache is as of its last record: value %d, contains %d\n", value, content);
       check_value()
     }
  od
}

init {
  atomic {
    run World();
    run Daemon()
  }
}
