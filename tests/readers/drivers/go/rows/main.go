// Reads pages of many rows through the recipe in ./recipes: see tests/readers/drivers/README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"driver/recipes"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

var ctx = context.Background()

// Pairs of numbers: the first ones, and all of them as a text.
func pairs(session pgx.Tx, query string, parameter any) (firsts []int, text string, err error) {
	rows, err := session.Query(ctx, query, parameter)
	if err != nil {
		return nil, "", err
	}
	var shown []string
	var a, b int
	_, err = pgx.ForEachRow(rows, []any{&a, &b}, func() error {
		firsts = append(firsts, a)
		shown = append(shown, fmt.Sprintf("%d@%d", a, b))
		return nil
	})
	return firsts, strings.Join(shown, " "), err
}

func page(category int) func(pgx.Tx, func(string)) (string, error) {
	return func(session pgx.Tx, uses func(string)) (string, error) {
		var name string
		uses(fmt.Sprintf("categories:%d", category))
		if err := session.QueryRow(ctx, "select name from categories where id = $1", category).Scan(&name); err != nil {
			return "", err
		}
		uses(fmt.Sprintf("products:category_id=%d", category))
		ids, products, err := pairs(session, "select id, price_cents from products where category_id = $1 order by id", category)
		if err != nil {
			return "", err
		}
		_, forgets := os.LookupEnv("FORGET")
		for _, id := range ids {
			uses(fmt.Sprintf("products:%d", id))
			if !forgets {
				uses(fmt.Sprintf("reviews:product_id=%d", id))
			}
		}
		_, reviews, err := pairs(session, "select product_id, count(*)::int from reviews where product_id = any($1) group by 1 order by 1", ids)
		return strings.Join([]string{name, products, reviews}, "|"), err
	}
}

func main() {
	cache := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + os.Getenv("REDIS_PORT"), MaxRetries: -1})
	database, err := pgxpool.New(ctx, os.Getenv("POSTGRES_URL"))
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		key := strings.TrimSpace(lines.Text())
		category, err := strconv.Atoi(strings.Split(key, ":")[1])
		if err != nil {
			panic(err)
		}
		value, err := recipes.ReadRows(ctx, cache, database, 10*time.Minute, key, page(category))
		if err != nil {
			panic(err)
		}
		text, _ := json.Marshal(value)
		fmt.Println(string(text))
	}
}
