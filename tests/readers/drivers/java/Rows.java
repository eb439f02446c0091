// Reads pages of many rows through the recipe beside it: see tests/readers/drivers/README.md.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.util.ArrayList;
import java.util.List;
import redis.clients.jedis.JedisPooled;

class Rows {
  static String shown(Connection session, String query, Object parameter, List<Integer> firsts) throws Exception {
    var texts = new ArrayList<String>();
    try (var select = session.prepareStatement(query)) {
      select.setObject(1, parameter);
      var rows = select.executeQuery();
      while (rows.next()) {
        firsts.add(rows.getInt(1));
        texts.add(rows.getString(1) + "@" + rows.getString(2));
      }
    }
    return String.join(" ", texts);
  }

  static RowTags.Load page(int category) {
    return (session, uses) -> {
      uses.accept("categories:" + category);
      String name;
      try (var select = session.prepareStatement("select name from categories where id = ?")) {
        select.setInt(1, category);
        var row = select.executeQuery();
        row.next();
        name = row.getString(1);
      }
      uses.accept("products:category_id=" + category);
      var ids = new ArrayList<Integer>();
      String products = shown(session, "select id, price_cents from products where category_id = ? order by id", category, ids);
      for (int id : ids) {
        uses.accept("products:" + id);
        if (System.getenv("FORGET") == null) uses.accept("reviews:product_id=" + id);
      }
      String reviews = shown(session, "select product_id, count(*) from reviews where product_id = any(?) group by 1 order by 1",
          session.createArrayOf("integer", ids.toArray()), new ArrayList<>());
      return String.join("|", name, products, reviews);
    };
  }

  public static void main(String[] arguments) throws Exception {
    try (var cache = new JedisPooled("127.0.0.1", Integer.parseInt(System.getenv("REDIS_PORT")));
        var database = DriverManager.getConnection(System.getenv("JDBC_URL"));
        var lines = new BufferedReader(new InputStreamReader(System.in))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        String key = line.trim();
        String value = RowTags.read(cache, database, key, page(Integer.parseInt(key.split(":")[1])));
        System.out.println("\"" + value.replace("\\", "\\\\").replace("\"", "\\\"") + "\"");
      }
    }
  }
}
