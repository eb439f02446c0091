// A value made from many rows, with evictd: go-redis and pgx. Whoever makes it tells each row that it used (docs/readers.md).
//
//	recipes.ReadRows(ctx, cache, pool, time.Hour, "page:3", func(session pgx.Tx, uses func(string)) (string, error) {
//		uses("categories:3")           // the rule: {table: categories, tags: ["row:categories:{id}"], fill: checked}
//		uses("products:category_id=3") // whatever product comes to this category
//		...
//	})
package recipes

import (
	"context"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

func ReadRows(ctx context.Context, cache *redis.Client, database *pgxpool.Pool, ttl time.Duration, key string, load func(pgx.Tx, func(string)) (string, error)) (value string, err error) {
	marker := "evictd:{" + key + "}"
	if regexp.MustCompile(`^[^{]*\{[^}]+\}`).MatchString(key) { // "{user:7}:cart" has its own braces
		marker = "evictd:" + key
	}
	names, token := []string{key, marker}, ""
	got, redisErr := cache.FCall(ctx, "evictd_get", names, "LEASE", 2000).Slice()
	for attempt := 1; redisErr == nil && got[0] == "busy" && attempt < 100; attempt++ {
		time.Sleep(10 * time.Millisecond) // another reader loads it: a second at most, then without the cache
		got, redisErr = cache.FCall(ctx, "evictd_get", names, "LEASE", 2000).Slice()
	}
	if redisErr == nil && got[1] != nil && got[2] == nil {
		return got[1].(string), nil // fresh, or stale while another reader refreshes it
	}
	began := time.Now()
	// One snapshot for all of its SELECTs. Without Redis, the database answers.
	one := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, database, one, func(session pgx.Tx) error {
		err := session.QueryRow(ctx, "select pg_current_snapshot()::text").Scan(&token)
		if err == nil {
			value, err = load(session, func(row string) { names = append(names, "tag:row:"+row) })
		}
		return err
	})
	if err == nil && redisErr == nil && got[2] != nil {
		// An error here means only: not cached this time.
		cache.FCall(ctx, "evictd_fill", names, token, ttl.Milliseconds(), value, "AGE", time.Since(began).Milliseconds())
	}
	return value, err
}
