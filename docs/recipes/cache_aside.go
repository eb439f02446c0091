// Cache-aside with evictd: go-redis and pgx. An empty text is a row that does not exist.
//
//	recipes.Read(ctx, cache, pool, time.Hour, "product:7", "select row_to_json(p) from products p where id = $1", 7)
package recipes

import (
	"context"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

func Read(ctx context.Context, cache *redis.Client, database *pgxpool.Pool, ttl time.Duration, key, query string, parameters ...any) (value string, err error) {
	marker := "evictd:{" + key + "}"
	if regexp.MustCompile(`^[^{]*\{[^}]+\}`).MatchString(key) { // "{user:7}:cart" has its own braces
		marker = "evictd:" + key
	}
	names := []string{key, marker} // and its tags, if any
	got, redisErr := cache.FCall(ctx, "evictd_get", names, "LEASE", 2000).Slice()
	for attempt := 1; redisErr == nil && got[0] == "busy" && attempt < 100; attempt++ {
		time.Sleep(10 * time.Millisecond) // another reader loads it: a second at most, then without the cache
		got, redisErr = cache.FCall(ctx, "evictd_get", names, "LEASE", 2000).Slice()
	}
	if redisErr == nil && got[1] != nil && got[2] == nil {
		return got[1].(string), nil // fresh, or stale while another reader refreshes it
	}
	began, token := time.Now(), ""
	// Without Redis, the database answers.
	sql := "select coalesce((" + query + ")::text, ''), pg_current_snapshot()::text"
	err = database.QueryRow(ctx, sql, parameters...).Scan(&value, &token)
	if err == nil && redisErr == nil && got[2] != nil {
		// An error here means only: not cached this time.
		cache.FCall(ctx, "evictd_fill", names, token, ttl.Milliseconds(), value, "AGE", time.Since(began).Milliseconds())
	}
	return value, err
}
