#!/usr/bin/env python3
"""Captures pgoutput messages of a real server into the files beside this script.

    capture.py HOST PORT     a superuser 'postgres' without password, wal_level=logical

Each file holds the messages of one slot in order: a big-endian 32-bit length, then the bytes. They are
read by the decoder's tests and are the seeds of its fuzzing, so that reader and writer cannot share one
misunderstanding. Needs PostgreSQL 15 and python3-psycopg2; drops and recreates the database evictd_capture.
"""
import struct
import sys
import pathlib

import psycopg2

HERE = pathlib.Path(__file__).parent
BIG = "repeat(md5(random()::text), 400)"  # 12,800 bytes that do not compress: stored out of line

SCENARIOS = {
    "types": """
        create domain flag as boolean;
        create table t (id int primary key, b boolean, u uuid, ts timestamp, tz timestamptz, d date,
                        raw bytea, j json, jb jsonb, n numeric, txt text, fl flag, c char(5), e float8);
        insert into t values (1, true, '6F9619FF-8B86-D011-B42D-00C04FC964FF', '2024-02-03 04:05:06.789',
                              '2024-02-03 04:05:06.789+02', '2024-02-03', '\\xDEADbeef', '{"a" : 1}', '{"a" : 1}',
                              1.00, 'x:y', false, 'ab', 0.1);
        insert into t (id) values (2);
    """,
    "identity_default": f"""
        create table t (id int primary key, slug text, big text);
        alter table t alter big set storage external;
        insert into t values (1, 'a', (select {BIG}));
        update t set slug = 'b';
        update t set id = 2;
        delete from t;
    """,
    "identity_full": f"""
        create table t (id int primary key, slug text, big text);
        alter table t alter big set storage external, replica identity full;
        insert into t values (1, 'a', (select {BIG}));
        update t set slug = null;
        update t set id = 2;
        delete from t;
    """,
    "identity_index": """
        create table t (id int primary key, code text not null unique, slug text);
        alter table t replica identity using index t_code_key;
        insert into t values (1, 'c', 'a');
        update t set slug = 'b';
        update t set id = 2;
        update t set code = 'd';
        delete from t;
    """,
    "truncate_and_messages": """
        create table t (id int primary key);
        create table u (id int primary key references t);
        insert into t values (1);
        truncate t cascade;
        select pg_logical_emit_message(true, 'evictd', 'in a transaction');
        select pg_logical_emit_message(false, 'evictd', 'outside one');
        insert into t values (2);
    """,
    "ddl": """
        create table t (id int primary key, slug text);
        insert into t values (1, 'a');
        alter table t rename column slug to name;
        insert into t values (2, 'b');
        begin; insert into t values (3, 'c'); alter table t add column extra int default 7;
        insert into t values (4, 'd'); commit;
        alter table t drop constraint t_pkey, alter id drop not null, replica identity full;
        update t set name = 'z' where id = 1;
    """,
    "origin": """
        create table t (id int primary key);
        select pg_replication_origin_create('elsewhere');
        select pg_replication_origin_session_setup('elsewhere');
        begin; select pg_replication_origin_xact_setup('0/ABCD', now()); insert into t values (1); commit;
        select pg_replication_origin_session_reset();
        select pg_replication_origin_drop('elsewhere');
    """,
}


def run(connection, statements):
    with connection.cursor() as cursor:
        for statement in statements.split(";"):
            if statement.strip():
                cursor.execute(statement)


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    for name, statements in SCENARIOS.items():
        admin = psycopg2.connect(host=host, port=port, user="postgres", dbname="postgres")
        admin.autocommit = True
        run(admin, "drop database if exists evictd_capture; create database evictd_capture")
        work = psycopg2.connect(host=host, port=port, user="postgres", dbname="evictd_capture",
                                options="-c timezone=UTC -c datestyle=ISO -c extra_float_digits=3 -c bytea_output=hex")
        work.autocommit = True
        run(work, "create publication p for all tables;"
                  "select pg_create_logical_replication_slot('evictd_capture', 'pgoutput')")
        run(work, statements)
        with work.cursor() as cursor:
            cursor.execute("select data from pg_logical_slot_get_binary_changes('evictd_capture', null, null,"
                           " 'proto_version', '1', 'publication_names', 'p', 'messages', 'true')")
            messages = [bytes(row[0]) for row in cursor.fetchall()]
        run(work, "select pg_drop_replication_slot('evictd_capture')")
        work.close()
        run(admin, "drop database evictd_capture")
        admin.close()
        with open(HERE / (name + ".bin"), "wb") as file:
            for message in messages:
                file.write(struct.pack(">I", len(message)) + message)
        print(name, len(messages), "messages", "".join(chr(m[0]) for m in messages))


if __name__ == "__main__":
    main()
