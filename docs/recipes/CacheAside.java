// Cache-aside with evictd: Jedis and JDBC. An empty text is a row that does not exist.
//   CacheAside.read(cache, connection, "product:7", "select row_to_json(p) from products p where id = ?", 7);
import java.util.List;
import redis.clients.jedis.UnifiedJedis;

class CacheAside {
  static String read(UnifiedJedis cache, java.sql.Connection database, String key, String query, Object parameter) throws Exception {
    // "{user:7}:cart" has its own braces.
    var names = List.of(key, key.matches("(?s)[^{]*\\{[^}]+\\}.*") ? "evictd:" + key : "evictd:{" + key + "}");  // and its tags, if any
    List<?> got = null;
    try {
      for (int attempt = 0; got == null || got.get(0).equals("busy") && attempt < 100; attempt++) {
        if (attempt > 0) Thread.sleep(10);  // another reader loads it: a second at most, then without the cache
        got = (List<?>) cache.fcall("evictd_get", names, List.of("LEASE", "2000"));
      }
      // Fresh, or stale while another reader refreshes it.
      if (got.get(1) != null && got.get(2) == null) return (String) got.get(1);
    } catch (RuntimeException unreachable) { got = null; }  // without Redis, the database answers
    long began = System.nanoTime();
    try (var select = database.prepareStatement("select coalesce((" + query + ")::text, ''), pg_current_snapshot()::text")) {
      select.setObject(1, parameter);
      var row = select.executeQuery();
      if (row.next() && got != null && got.get(2) != null) try {
        String ageMs = "" + (System.nanoTime() - began) / 1_000_000;
        cache.fcall("evictd_fill", names, List.of(row.getString(2), "600000", row.getString(1), "AGE", ageMs));
      } catch (RuntimeException unreachable) { /* not cached this time */ }
      return row.getString(1);
    }
  }
}
