<?php
// Reads pages of many rows through the recipe beside it: see tests/readers/drivers/README.md.
require __DIR__ . '/row_tags.php';

$server = parse_url(getenv('POSTGRES_URL'));
$database = new PDO("pgsql:host={$server['host']};port={$server['port']};dbname=" . ltrim($server['path'], '/'), $server['user']);
$cache = new Redis();
$cache->connect('127.0.0.1', (int) getenv('REDIS_PORT'), 1.0, null, 0, 1.0);

function rows(PDO $session, string $query, array $parameters): array
{
    $select = $session->prepare($query);
    $select->execute($parameters);
    return $select->fetchAll(PDO::FETCH_NUM);
}

function shown(array $rows): string
{
    return implode(' ', array_map(fn($row) => "$row[0]@$row[1]", $rows));
}

function page_of(int $category): callable
{
    return function (PDO $session, callable $uses) use ($category): string {
        $uses("categories:$category");
        $name = rows($session, 'select name from categories where id = ?', [$category])[0][0];
        $uses("products:category_id=$category");
        $products = rows($session, 'select id, price_cents from products where category_id = ? order by id', [$category]);
        foreach ($products as [$id]) {
            $uses("products:$id");
            if (getenv('FORGET') === false) $uses("reviews:product_id=$id");
        }
        $ids = '{' . implode(',', array_column($products, 0)) . '}';
        $reviews = rows($session, 'select product_id, count(*) from reviews where product_id = any(?::int[]) group by 1 order by 1', [$ids]);
        return implode('|', [$name, shown($products), shown($reviews)]);
    };
}

while (($line = fgets(STDIN)) !== false) {
    $key = trim($line);
    echo json_encode(read_rows($cache, $database, $key, page_of((int) explode(':', $key)[1]))), "\n";
}
