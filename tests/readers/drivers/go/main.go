// Reads keys through the recipe in ./recipes: see tests/readers/drivers/README.md.
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

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

func main() {
	ctx := context.Background()
	cache := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + os.Getenv("REDIS_PORT"), MaxRetries: -1})
	database, err := pgxpool.New(ctx, os.Getenv("POSTGRES_URL"))
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		key := strings.TrimSpace(lines.Text())
		id, err := strconv.Atoi(strings.Split(key, ":")[1])
		if err != nil {
			panic(err)
		}
		value, err := recipes.Read(ctx, cache, database, 10*time.Minute, key, "select row_to_json(p) from products p where id = $1", id)
		if err != nil {
			panic(err)
		}
		text, _ := json.Marshal(value)
		fmt.Println(string(text))
	}
}
