/* A new epoch: the old primary dies and its last commit was not replicated (G6). The new primary gives the same xid
 * to another transaction, and fills carry no epoch: a reader that selected on the old primary looks as if it had seen
 * the new transaction. One key; `lost` and `next` are the two transactions, both with the same xid.
 *
 * The repair is a purge when the new epoch is noticed and a second one when the readers of the old epoch are done
 * (tombstone_ttl after the first): here a contract, as in checked.pml.
 */
#ifndef READERS
#define READERS 2
#endif
#define LOST 1
#define NEXT 2

#ifdef REACH
#define reached(n) assert(n != REACH)
#else
#define reached(n) skip
#endif

bool over;                       /* the old primary is gone */
bool lost_visible, next_logged, next_visible;

bool value;
byte content;
mtype = { none, tombstone, filled };
mtype marker = none;
bool new_epoch; /* of the marker */
bool needs_it;  /* tombstone: holds the xid */
bool saw_it;    /* filled: its snapshot contains the xid */

bool noticed, repaired, held, acknowledged;

bool flying[READERS], old_reader[READERS], token[READERS];
byte read_content[READERS];

inline check_value() {
  assert(!value || !repaired || !(content & LOST));
  assert(!value || !repaired || !acknowledged || (content & NEXT))
}

inline land(me) {
  flying[me] = false;
  old_reader[me] = false;
  token[me] = false;
  read_content[me] = 0
}

proctype Reader(byte me) {
  do
  :: d_step {
       !flying[me] -> flying[me] = true;
       if
       :: !over -> old_reader[me] = true; token[me] = lost_visible; read_content[me] = (lost_visible -> LOST : 0)
       :: else -> token[me] = next_visible; read_content[me] = (next_visible -> NEXT : 0)
       fi;
       printf("reader %d selects: contains %d\n", me, read_content[me])
     }
  :: d_step {
       flying[me] ->
       if
       :: marker == none || (marker == tombstone && (!needs_it || token[me])) || (marker == filled && (!saw_it || token[me])) ->
          value = true; content = read_content[me];
          marker = filled; needs_it = false; saw_it = token[me]; new_epoch = noticed;
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
  :: d_step { !over && !lost_visible -> lost_visible = true; printf("the old primary commits\n") }
  :: d_step { !over -> over = true; printf("failover\n") }
  :: d_step { over && !next_logged -> next_logged = true; printf("the new primary logs\n") }
  :: d_step { next_logged && !next_visible -> next_visible = true; printf("it is visible\n") }
  od
}

inline purge() {
  value = false;
  content = 0;
  marker = none;
  needs_it = false;
  saw_it = false
}

#ifdef TRUST_AFTER_REPAIR /* either will do */
#define trusted repaired
#else
#define trusted true
#endif

proctype Daemon() {
  do
  :: d_step { over && !noticed -> noticed = true; purge(); printf("the daemon sees the new epoch and purges\n");
#ifdef ONE_PURGE
       repaired = true;
       check_value()
#endif
     }
#ifndef ONE_PURGE
  :: d_step {
       noticed && !repaired && !(flying[0] && old_reader[0]) && !(flying[READERS - 1] && old_reader[READERS - 1]) ->
       value = false; content = 0; /* markers stay: they are of the new epoch */
#ifdef PURGE_MARKERS
       marker = none; needs_it = false; saw_it = false;
#endif
       repaired = true;
       reached(3);
       printf("the daemon purges again\n");
       check_value()
     }
#endif
  :: d_step {
       noticed && next_logged ->
       if
       :: marker == tombstone && new_epoch && needs_it -> reached(4)
       :: marker == filled && new_epoch && saw_it && trusted -> reached(5)
       :: else -> value = false; content = 0; marker = tombstone; new_epoch = true; needs_it = true; saw_it = false
       fi;
       held = !acknowledged;
       printf("  invalidate: %e, value %d\n", marker, value);
       check_value()
     }
  :: d_step { held && next_visible -> held = false; acknowledged = true; printf("acknowledged\n"); check_value() }
  :: d_step { held -> held = false; printf("the daemon crashes\n") }
  od
}

init {
  atomic {
    run Database(); run Daemon(); run Reader(0);
#if READERS > 1
    run Reader(1);
#endif
  }
}
