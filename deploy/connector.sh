#!/usr/bin/env bash
# Creates the Debezium connector of docker-compose.yml's profile `kafka`: the shop's tables, no snapshot.
set -euo pipefail
curl -fsS -X POST -H 'Content-Type: application/json' "${1:-http://localhost:8083}/connectors" -d '{
  "name": "shop",
  "config": {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "plugin.name": "pgoutput",
    "database.hostname": "postgres", "database.user": "shop", "database.password": "shop", "database.dbname": "shop",
    "topic.prefix": "shop",
    "table.include.list": "public.products,public.categories,public.reviews,public.orders,public.settings",
    "publication.autocreate.mode": "filtered",
    "snapshot.mode": "no_data",
    "skipped.operations": "none",
    "heartbeat.interval.ms": "10000",
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter"
  }
}'
echo
