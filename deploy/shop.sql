-- A small shop: what deploy/demo.sh, docker-compose.yml and the tests run against.

create table categories (
  id    integer primary key,
  name  text not null
);

create table products (
  id           integer primary key,
  slug         text not null unique,
  name         text not null,
  price_cents  integer not null,
  category_id  integer not null references categories
);

create table reviews (
  id          bigserial primary key,
  product_id  integer not null,
  rating      smallint not null,
  body        text not null
);
create index on reviews (product_id);

create table orders (
  id          bigserial primary key,
  product_id  integer not null,
  quantity    integer not null,
  ordered_at  timestamptz not null default now()
);
create index on orders (product_id);

create table settings (
  name   text primary key,
  value  text not null
);

-- rules.yaml builds keys and tags from columns outside the primary key: an old slug, the category a product
-- left, the product a deleted review belonged to. PostgreSQL sends old values of the replica identity
-- only, so these tables send whole old rows. `evictd check` prints this line where it is missing.
alter table products replica identity full;
alter table reviews replica identity full;
alter table orders replica identity full;

insert into categories select i, 'category ' || i from generate_series(1, 5) i;
insert into products
  select i, 'product-' || i, 'Product ' || i, 100 * i, 1 + i % 5 from generate_series(1, 100) i;
insert into reviews (product_id, rating, body)
  select 1 + i % 100, 1 + i % 5, 'review ' || i from generate_series(1, 300) i;
insert into orders (product_id, quantity)
  select 1 + i % 100, 1 + i % 3 from generate_series(1, 200) i;
insert into settings values ('currency', 'EUR'), ('banner', 'welcome');
