<?php
// Cache-aside with evictd: phpredis and PDO. An empty text is a row that does not exist.
//   $cache = new Redis(); $cache->connect('127.0.0.1', 6379, 1.0, null, 0, 1.0);
//   read($cache, $pdo, 'product:7', 'select row_to_json(p) from products p where id = ?', [7]);

function read(Redis $cache, PDO $database, string $key, string $query, array $parameters, int $ttlMs = 600000, array $tags = []): string
{
    $marker = preg_match('/^[^{]*\{[^}]+\}/', $key) ? "evictd:" . $key : "evictd:{" . $key . "}"; // "{user:7}:cart" has its own braces
    $names = [$key, $marker, ...$tags];
    $value = $lease = false;
    try {
        for ($attempt = 0, $state = 'busy'; $state === 'busy' && $attempt < 100; $attempt++) {
            if ($attempt > 0) usleep(10000); // another reader loads it: a second at most, then without the cache
            [$state, $value, $lease] = $cache->rawCommand('FCALL', 'evictd_get', count($names), ...[...$names, 'LEASE', '2000']);
        }
        if (is_string($value) && !is_string($lease)) return $value; // fresh, or stale while another reader refreshes it
    } catch (RedisException $unreachable) {
        $lease = false; // without Redis, the database answers
    }
    $began = hrtime(true);
    $select = $database->prepare("select coalesce(($query)::text, ''), pg_current_snapshot()::text");
    $select->execute($parameters);
    [$value, $token] = $select->fetch(PDO::FETCH_NUM);
    if (is_string($lease)) try {
        $ageMs = intdiv(hrtime(true) - $began, 1000000);
        $fill = [...$names, $token, $ttlMs, $value, 'AGE', $ageMs];
        $cache->rawCommand('FCALL', 'evictd_fill', count($names), ...$fill);
    } catch (RedisException $unreachable) { /* not cached this time */ }
    return $value;
}
