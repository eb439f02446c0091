// A Redis Cluster as one sink: a connection to each master, and orders split by slot (cluster_orders.h).
//
//   observer ─► topology ─► a node for each master ─► all connected ─► copies of the record read, judged ─► connected
//      ▲                                                                                                        │
//      └── each second, and at once when something is off ◄──── MOVED, ASK, TRYAGAIN, CLUSTERDOWN, a lost node ◄┘
//
// What is asked of a master that is away waits for it, while the others go on, as long as there is room. One that comes back as
// the same process lost nothing, and gets what waits. Where another process has its place (a promoted replica, a restart), what
// is under way is lost to the flow, as with one server; the copies of the record are read again (topology/record_copies.h), and
// slots whose data is not that of the last record are lost parts: purged alone.
//
// A slot that moves between two masters that are both there loses nothing: its keys answer by MOVED and ASK. A call with a key and
// its marker waits while only one of the two has moved (TRYAGAIN).
//
// Who decides what:
//   topology/topology_watch.h   who serves which slot, what is wrong with that, when to look again; cluster_observer.h asks
//   topology/judged_masters.h   whose data is known to be what the record says
//   cluster_nodes.h             which nodes there are connections to (cluster_node.h)
//   cluster_orders.h            what an order becomes, call by call (calls.h); order_book.h: those under way
//   copy_writer.h               how the copies of the record are written, and when it is stored
//   copy_reader.h               how they are read, and which slots are lost
//   cluster_witness.h           when enough replicas have it
//   cluster_sink.cpp            where a call goes and when again, when the cluster is up and down, what people read
#pragma once

#include <memory>
#include <vector>

#include "daemon/sinks/redis/redis_sink.h"
#include "daemon/sinks/redis/url.h"

namespace evictd {

// `seeds`: any nodes, at least one, all with the same user, password and TLS.
std::unique_ptr<Sink> make_cluster_sink(RedisOptions options, std::vector<RedisAddress> seeds);

}  // namespace evictd
