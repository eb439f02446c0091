module driver

go 1.19

require (
	github.com/jackc/pgx/v5 v5.4.3
	github.com/redis/go-redis/v9 v9.2.1
)
