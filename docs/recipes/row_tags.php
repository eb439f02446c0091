<?php
// A value made from many rows, with evictd: phpredis and PDO. Whoever makes it tells each row that it used (docs/readers.md).
//   read_rows($cache, $pdo, 'page:3', function (PDO $session, callable $uses): string {
//       $uses('categories:3');             // the rule: {table: categories, tags: ["row:categories:{id}"], fill: checked}
//       $uses('products:category_id=3');   // whatever product comes to this category
//       ...
//   });

function read_rows(Redis $cache, PDO $database, string $key, callable $load, int $ttlMs = 600000): string
{
    $marker = preg_match('/^[^{]*\{[^}]+\}/', $key) ? "evictd:" . $key : "evictd:{" . $key . "}"; // "{user:7}:cart" has its own braces
    $names = [$key, $marker];
    $value = $lease = false;
    try {
        for ($attempt = 0, $state = 'busy'; $state === 'busy' && $attempt < 100; $attempt++) {
            if ($attempt > 0) usleep(10000); // another reader loads it: a second at most, then without the cache
            [$state, $value, $lease] = $cache->rawCommand('FCALL', 'evictd_get', 2, ...[...$names, 'LEASE', '2000']);
        }
        if (is_string($value) && !is_string($lease)) return $value; // fresh, or stale while another reader refreshes it
    } catch (RedisException $unreachable) { $lease = false; } // without Redis, the database answers
    $began = hrtime(true);
    $database->exec('begin isolation level repeatable read, read only'); // one snapshot for all of its SELECTs
    try {
        $token = $database->query("select pg_current_snapshot()::text")->fetchColumn();
        $value = $load($database, function (string $row) use (&$names) { $names[] = "tag:row:$row"; });
    } finally { $database->exec('rollback'); }
    if (is_string($lease)) try {
        $fill = [...$names, $token, $ttlMs, $value, 'AGE', intdiv(hrtime(true) - $began, 1000000)];
        $cache->rawCommand('FCALL', 'evictd_fill', count($names), ...$fill);
    } catch (RedisException $unreachable) { /* not cached this time */ }
    return $value;
}
