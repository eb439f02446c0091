// Reads keys through the recipe beside it: see tests/readers/drivers/README.md.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.DriverManager;
import redis.clients.jedis.JedisPooled;

class Driver {
  public static void main(String[] arguments) throws Exception {
    try (var cache = new JedisPooled("127.0.0.1", Integer.parseInt(System.getenv("REDIS_PORT")));
        var database = DriverManager.getConnection(System.getenv("JDBC_URL"));
        var lines = new BufferedReader(new InputStreamReader(System.in))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        String key = line.trim();
        String value = CacheAside.read(cache, database, key, "select row_to_json(p) from products p where id = ?",
            Integer.parseInt(key.split(":")[1]));
        System.out.println("\"" + value.replace("\\", "\\\\").replace("\"", "\\\"") + "\"");
      }
    }
  }
}
