// A value made from many rows, with evictd: Jedis and JDBC. Whoever makes it tells each row that it used (docs/readers.md).
//   RowTags.read(cache, connection, "page:3", (session, uses) -> {
//     uses.accept("categories:3");            // the rule: {table: categories, tags: ["row:categories:{id}"], fill: checked}
//     uses.accept("products:category_id=3");  // whatever product comes to this category
//     ...
//   });
import java.sql.Connection;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import redis.clients.jedis.UnifiedJedis;

class RowTags {
  interface Load { String make(Connection session, Consumer<String> uses) throws Exception; }

  static String read(UnifiedJedis cache, Connection database, String key, Load load) throws Exception {
    // "{user:7}:cart" has its own braces.
    var marker = key.matches("(?s)[^{]*\\{[^}]+\\}.*") ? "evictd:" + key : "evictd:{" + key + "}";
    var names = new ArrayList<>(List.of(key, marker));
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
    try (var session = database.createStatement()) {
      session.execute("begin isolation level repeatable read, read only");  // one snapshot for all of its SELECTs
      var token = session.executeQuery("select pg_current_snapshot()::text");
      token.next();
      List<String> fill = new ArrayList<>(List.of(token.getString(1), "600000"));
      fill.add(load.make(database, row -> names.add("tag:row:" + row)));
      fill.addAll(List.of("AGE", "" + (System.nanoTime() - began) / 1_000_000));
      if (got != null && got.get(2) != null) try { cache.fcall("evictd_fill", names, fill);
      } catch (RuntimeException unreachable) { /* not cached this time */ }
      return fill.get(2);
    } finally { database.createStatement().execute("rollback"); }
  }
}
