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
#pragma once

#include <memory>
#include <vector>

#include "daemon/sinks/redis/redis_sink.h"
#include "daemon/sinks/redis/url.h"

namespace evictd {

// `seeds`: any nodes, at least one, all with the same user, password and TLS.
std::unique_ptr<Sink> make_cluster_sink(RedisOptions options, std::vector<RedisAddress> seeds);

}  // namespace evictd
