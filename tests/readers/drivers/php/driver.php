<?php
// Reads keys through the recipe beside it: see tests/readers/drivers/README.md.
require __DIR__ . '/cache_aside.php';

$server = parse_url(getenv('POSTGRES_URL'));
$database = new PDO("pgsql:host={$server['host']};port={$server['port']};dbname=" . ltrim($server['path'], '/'), $server['user']);
$cache = new Redis();
$cache->connect('127.0.0.1', (int) getenv('REDIS_PORT'), 1.0, null, 0, 1.0);
$query = 'select row_to_json(p) from products p where id = ?';
while (($line = fgets(STDIN)) !== false) {
    $key = trim($line);
    echo json_encode(read($cache, $database, $key, $query, [(int) explode(':', $key)[1]])), "\n";
}
