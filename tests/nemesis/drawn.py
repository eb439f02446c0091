"""Tables, rows, rules, and what readers cache under them, drawn from a seed: what `worlds.py` runs.

Nothing here knows evictd's code. The text of a value is what docs/rules.md says, in SQL; what filters, paths and elements make
of it, in Python. A view is what one template's readers cache: a map from every key that some row makes to all rows that make it.
"""

import hashlib
import json
import re
import urllib.parse

TEXTS = ["a", "A", "b c", "a:b", "50%", "it's", 'say "x"', "été", "ß", "日本", "", " pad ", "a*b", "x\\y", "{z}", "}{", "two\nlines", "tab\t", "NULL",
         "~", "a|b", "a/b", "😀", "[ab]", "?"]
JSONS = ['{"a":{"b":"x"},"n":1.50,"l":[1,"two",null,{"s":"k"}]}', '{"a":{"b":null}}', "[]", '"text"', '{"a":{"b":true},"n":10,"l":[]}',
         '{"n":"1.50","l":[{"s":"é"},{"s":"q\\"uote"}]}', "null", '{"a":"flat","l":{"s":1}}', '{"l":[["in",1],null]}', '{"a": {"b": [1, {"c" : 2}]}, "n": -0.0}']
TIMES = ["2024-02-03 04:05:06.789", "2024-02-03 00:00:00", "1999-12-31 23:59:59.999999", "infinity", "0044-03-15 00:00:00 BC"]
PATHS = [["*"], ["a", "b"], ["n"], ["l", "0"], ["l", "*"], ["l", "*", "s"], ["a"]]

# SQL type: literals. Few of each, so that rows meet under one key.
TYPES = {
    "integer": ["0", "1", "7", "-7", "2147483647"], "bigint": ["0", "1", "9223372036854775807"], "smallint": ["0", "1", "-1"],
    "numeric(8,2)": ["0", "1.5", "-3.25", "99999.99", "NaN"], "numeric": ["0", "1.50", "1.5", "1e3", "12345678901234567890.123", "NaN"],
    "double precision": ["0", "0.1", "1e20", "1e-7", "NaN", "Infinity", "-0", "0.30000000000000004"], "real": ["0.1", "3.4028235e38", "16777216"],
    "text": TEXTS, "varchar(20)": TEXTS, "char(6)": [text for text in TEXTS if len(text) <= 6], "boolean": ["t", "f"],
    "mood": ["sad", "ok", "it's fine", "Über"], "positive": ["1", "2", "70"], "short_text": TEXTS, "uuid": [
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "date": ["2024-02-03", "2023-12-31", "infinity", "0044-03-15 BC", "9999-12-31"], "timestamp": TIMES, "timestamptz": TIMES + ["2024-02-03 04:05:06+05:30"],
    "time": ["09:00:00", "23:59:59.5"], "interval": ["1 day", "-1 mon 2:00"], "inet": ["10.0.0.1", "10.0.0.0/8", "::1"], "bytea": ["\\x", "\\xdeadBEEF", "\\x00ff"],
    "integer[]": ["{}", "{1,2}", "{1,NULL,3}", "{{1,2},{3,4}}", "{7}", "[0:1]={5,6}"],
    "text[]": ["{}", '{a,"b c"}', '{red,NULL,"q\\"uote"}', '{"a:b","a,b"}', '{"NULL",""}', "{a,a}"],
    "boolean[]": ["{t,f}", "{}", "{t,NULL}"], "timestamptz[]": ['{"2024-02-03 04:05:06+02",infinity}', '{"0044-03-15 00:00:00+00 BC"}'], "bytea[]": ['{"\\\\xDEAD"}', "{}"],
    "uuid[]": ["{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}"], "mood[]": ['{sad,"it\'s fine"}', "{NULL,Über}"], "numeric[]": ["{1.50,1.5}", "{NaN}"], "jsonb[]": ['{"{\\"a\\": 1}"}'],
    "jsonb": JSONS, "json": JSONS, "int4range": ["[1,5)", "empty", "(,3]"], "point_pair": ["(1,a)", '(2,"b c")', "(,)"],
}
ORDERED = {"integer": "0", "bigint": "1", "smallint": "0", "numeric(8,2)": "1.50", "numeric": "1.5", "positive": "2", "date": "2024-01-01",
           "timestamp": "2024-02-03T00:00:00", "timestamptz": "2024-02-03T00:00:00Z"}
EQUAL = ["integer", "smallint", "numeric(8,2)", "text", "varchar(20)", "boolean", "mood", "positive", "uuid", "date", "timestamptz", "short_text", "bytea"]
ODD_NAMES = ["Odd name", "select", "naïve", "a.b", 'quo"te', "br{a}ce", "pi|pe"]
SETTINGS = ["datestyle = 'German, DMY'", "timezone = 'Asia/Kolkata'", "bytea_output = 'escape'", "extra_float_digits = -3", "intervalstyle = 'iso_8601'"]
QUIET = 100  # rows of these and higher ids are never written
TYPES_SQL = """
create type mood as enum ('sad', 'ok', 'it''s fine', 'Über');
create domain positive as integer check (value > 0);
create domain short_text as varchar(12);
create type point_pair as (n integer, label text);
create schema "s 2";
"""


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "null" if text is None else "'" + text.replace("'", "''") + "'"


def text_of(column, kind):
    """The text of a value by docs/rules.md, as SQL."""
    if kind == "bytea":
        return f"encode({column}, 'hex')"
    if kind in ("timestamp", "timestamptz"):
        text = f"regexp_replace({column}::text, '^(\\S+) (\\d)', '\\1T\\2')"
        return text if kind == "timestamp" else f"regexp_replace({text}, '[+]00( BC)?$', 'Z\\1')"
    if kind == "boolean":
        return f"{column}::text"
    return f"case when num_nulls({column}) = 0 then format('%s', {column}) end"  # as it is printed, which a cast does not do to every type


class Number(str):
    """A number of JSON as it is written."""


def json_text(value):
    """Compact, as the document has it."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{json_text(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def found_at(value, path):
    """All values that a path leads to; None: nothing is there, which is an element only behind a `*`."""
    if not path:
        return [value]
    if path[0] == "*":
        return [found for one in value for found in found_at(one, path[1:])] if isinstance(value, list) else []
    if isinstance(value, dict) and path[0] in value:
        return found_at(value[path[0]], path[1:])
    if isinstance(value, list) and path[0].isdigit() and int(path[0]) < len(value):
        return found_at(value[int(path[0])], path[1:])
    return [] if "*" in path else [None]


def simple_case(text, change):
    """One character to one."""
    return "".join(change(one) if len(change(one)) == 1 else one for one in text)


def filtered(text, filters):
    """-> the text, None: NULL, no key; filters as they stand in the template."""
    for name in filters:
        if name.startswith("default("):
            text = name[9:-2] if text is None else text
        elif text is None:
            continue
        elif name == "lower":
            text = simple_case(text, str.lower)
        elif name == "upper":
            text = simple_case(text, str.upper)
        elif name == "trim":
            text = text.strip(" \t\n\v\f\r")
        elif name == "urlencode":
            text = urllib.parse.quote(text, safe="-._~")
        elif name in ("md5", "sha1", "sha256"):
            text = hashlib.new(name, text.encode()).hexdigest()
        else:
            day = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)(?!.* BC).*", text, re.S)
            if day is None:
                return None  # a bad value: no key either way
            text = name[6:-2].replace("%Y", day[1]).replace("%m", day[2]).replace("%d", day[3])
    return text


class Column:
    def __init__(self, name, kind, *, null=True, fixed=False):
        self.name, self.kind, self.null, self.fixed = name, kind, null, fixed
        self.sql = quoted(name)

    def value(self, choice):
        return None if self.null and choice.random() < 0.15 else choice.choice(TYPES[self.kind])

    def seen(self, source):
        """As a reader shows it in a value."""
        column = f"{source}.{self.sql}"
        return f"coalesce(md5({column}), '~')" if self.kind == "big" else f"coalesce({column}::text, '~')"


class Hole:
    """One placeholder."""

    def __init__(self, column, path=(), filters=(), join=None):
        self.column, self.path, self.filters, self.join = column, list(path), list(filters), join

    def text(self):
        name = self.column.name if re.fullmatch(r"[a-z_0-9]+", self.column.name) else quoted(self.column.name)
        return "{" + "|".join([".".join([*([self.join] if self.join else []), name, *self.path]), *self.filters]) + "}"

    def sql(self, source):
        column = f"{self.join or source}.{self.column.sql}"
        if self.column.kind.endswith("[]") and self.path:
            return f"case when num_nulls({column}) = 0 then (select coalesce(json_agg({text_of('e', self.column.kind[:-2])}), '[]')::text from unnest({column}) e) end"
        return column if self.column.kind == "big" else text_of(column, self.column.kind)

    def texts(self, raw):
        """All texts that a row's value gives."""
        if raw is None or not (self.path or self.column.kind in ("json", "jsonb")):
            found = [] if "*" in self.path else [raw]
        else:
            value = json.loads(raw, parse_int=Number, parse_float=Number)
            if self.column.kind.endswith("[]") and "json" in self.column.kind:
                value = [one and json.loads(one, parse_int=Number, parse_float=Number) for one in value]
            found = [None if one is None and self.path else str(one) if isinstance(one, str) and self.path else json_text(one)
                     for one in found_at(value, self.path)]
        return [text for text in (filtered(one, self.filters) for one in found) if text is not None]


class Template:
    def __init__(self, prefix, holes, separator=":"):
        self.prefix, self.holes, self.separator = prefix, holes, separator

    def text(self):
        return self.prefix.replace("{", "{{").replace("}", "}}") + self.separator.join(hole.text() for hole in self.holes)

    def names(self, raws):
        """Every key that a row makes."""
        found = [self.prefix]
        for number, (hole, raw) in enumerate(zip(self.holes, raws)):
            found = [one + (self.separator if number else "") + text for one in found for text in hole.texts(raw)]
        return found


class Part:
    """What one rule puts into a view: rows, and the keys that each makes."""

    def __init__(self, rule, source, template, seen, where="true"):
        self.rule, self.template = rule, template
        raws = ", ".join(hole.sql("r") for hole in template.holes) + ", " if template.holes else ""
        self.row = "concat_ws('|', " + ", ".join(seen) + ")"
        self.query = f"select {raws}{self.row} from {source} where {where}"

    def add_to(self, found, rows):
        for *raws, row in rows:
            for name in set(self.template.names(raws)):
                found.setdefault(name, []).append(row)


class View:
    """What is cached by one template's readers, and how they do it."""

    def __init__(self, number, how, *, absent=True, caches=("first",), tag=False):
        self.number, self.how, self.absent, self.caches, self.tag = number, how, absent, caches, tag
        self.parts = []
        self.version = None  # the query of a row's version
        self.is_quiet = False  # its keys are of single rows: those of quiet rows stay
        self.known = set()

    def rules(self):
        return {part.rule for part in self.parts}

    def load(self, cursor):
        """-> ({name: value}, the snapshot), of one statement's snapshot or of the first one's."""
        found, token = {}, None
        for part in self.parts:
            cursor.execute(f"select pg_current_snapshot()::text, q.* from (select 1) one left join ({part.query}) q(" +
                           ", ".join(f"c{n}" for n in range(len(part.template.holes) + 1)) + ") on true")
            rows = cursor.fetchall()
            token = token or rows[0][0]
            part.add_to(found, [row[1:] for row in rows if row[-1] is not None])
        found = {name: "\n".join(sorted(rows)) for name, rows in found.items()}
        self.known |= set(list(found)[:60 - len(self.known)] if len(self.known) < 60 else [])
        return found, token


class Table:
    def __init__(self, choice, number):
        self.number = number
        name = choice.choice([f"t{number}", f"t{number}", f"Odd Table {number}", f"dot.ted{number}"])
        schema = choice.choice(["public", "public", "s 2"])
        self.sql = f"{quoted(schema)}.{quoted(name)}"
        simple = re.fullmatch(r"[a-z0-9]+", name)
        self.rule_name = (name if schema == "public" and choice.random() < 0.5 else f"{schema}.{name}") if simple else f"{schema}.{quoted(name)}"
        self.layout = choice.choice(["plain", "plain", "plain", "partitioned", "inherited"])
        self.identity = choice.choice(["full"] * 6 + ["default"] * 4 + ["index"] * 2 + ["nothing"])
        fixed = [Column("id", "integer", null=False), Column("code", "smallint", null=False)]
        self.key = fixed[:choice.choice([1, 1, 2])]
        self.code = len(self.key) > 1
        self.columns = list(self.key) + [Column("ref", "integer"), Column("born", "integer", null=False, fixed=True), Column("stock", "integer")]
        if self.layout == "partitioned":
            self.region = Column("region", "smallint", null=False)
            self.key = self.key + [self.region]
            self.columns.append(self.region)
        kinds = choice.sample(sorted(TYPES), choice.randint(3, 6))
        odd = choice.sample(ODD_NAMES, len(ODD_NAMES))
        for index, kind in enumerate(kinds):
            self.columns.append(Column(odd.pop() if choice.random() < 0.25 else f"c{index}", kind, null=choice.random() < 0.7))
        self.big = Column("big", "big") if choice.random() < 0.4 else None
        if self.big:
            self.columns.append(self.big)
        self.generated = Column("gen", "text") if choice.random() < 0.15 else None  # older servers send none: `check` knows
        if self.generated:
            self.columns.append(self.generated)
        self.version = self.layout == "plain" and choice.random() < 0.3
        self.spare = choice.random() < 0.5  # a column that no rule names, for DDL
        self.children = {"partitioned": [f"p{number}_0", f"p{number}_1"], "inherited": [f"i{number}"]}.get(self.layout, [])

    def ddl(self):
        key = ", ".join(column.sql for column in self.key)
        kinds = {"big": "text"}
        columns = [f"{column.sql} {kinds.get(column.kind, column.kind)}{'' if column.null else ' not null'}" +
                   (" generated always as (stock::text || '!') stored" if column is self.generated else "") for column in self.columns]
        columns += ["v bigint not null default 0"] if self.version else []
        columns += ["spare text default 's'"] if self.spare else []
        unique = ", ".join(column.sql for column in [*self.key, next(column for column in self.columns if column.fixed)])
        out = [f"create table {self.sql} ({', '.join(columns)}, primary key ({key}))" + (" partition by list (region)" if self.layout == "partitioned" else "")]
        names = [self.sql]
        for number, child in enumerate(self.children):
            if self.layout == "partitioned":
                out.append(f"create table {child} partition of {self.sql} for values in ({number})")
            else:
                out.append(f"create table {child} (primary key ({key})) inherits ({self.sql})")
            names.append(child)
        for number, name in enumerate(names):
            if self.identity == "index":
                if self.layout == "partitioned" and number:
                    out.append(f"create unique index u{self.number}_{number} on {name} ({unique})")
                elif self.layout != "partitioned":
                    out.append(f"create unique index u{self.number}_{number} on {name} ({unique})")
                if self.layout != "partitioned" or number:
                    out.append(f"alter table {name} replica identity using index u{self.number}_{number}")
            else:
                out.append(f"alter table {name} replica identity {self.identity}")
            if self.big and (self.layout != "partitioned" or number):
                out.append(f"alter table {name} alter column big set storage external")
        if self.version:
            out.append(f"""create function stamp{self.number}() returns trigger language plpgsql as $$ begin
              new.v := greatest(case when tg_op = 'UPDATE' then old.v + 1 else 0 end, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
              return new; end $$""")
            out.append(f"create trigger stamp before insert or update on {self.sql} for each row execute function stamp{self.number}()")
        return out

    def row(self, choice, number, quiet=False):
        """Literals of a new row, by column."""
        values = {}
        for column in self.columns:
            if column is self.generated:
                continue
            if column.name == "id":
                values[column] = str(number)
            elif column.name == "ref":
                values[column] = choice.choice([None, *map(str, range(1, 13))])
            elif column.name == "born":
                values[column] = str(choice.randrange(4))
            elif column.name in ("code", "region") and column in self.key:
                values[column] = "0" if quiet else str(choice.randrange(2))
            elif column is self.big:
                values[column] = self.big_text(choice)
            else:
                values[column] = column.value(choice)
        return values

    @staticmethod
    def big_text(choice):
        return choice.choice(["small", "".join(choice.choice("0123456789abcdef") for _ in range(20_000))])

    def cast(self, column, value):
        return f"{literal(value)}::{'text' if column.kind == 'big' else column.kind}"


class Drawing:
    """Everything of one seed. `printed(kind, value)`: what PostgreSQL prints of a literal, by `text_of`."""

    def __init__(self, choice, printed, tables=None, rules=None):
        self.choice, self.printed = choice, printed
        self.tables = [Table(choice, number) for number in range(tables or choice.randint(1, 4))]
        self.rules, self.views = [], []
        self.caches = choice.choice([["first"], ["first"], ["first", "second"]])
        self.defaults = choice.choice([{}, {}, {"settle": "700ms", "purge_every": "100ms"}, {"collapse_after": 20}])
        self.is_behind = len(self.caches) > 1 and choice.random() < 0.4  # the second cache is filled from the first
        self.settings = choice.sample(SETTINGS, choice.choice([0, 0, 2, 5]))
        for number in range(rules or choice.randint(2, 7)):
            self.draw_rule(number)
        if choice.random() < 0.5:
            self.share()

    def prefix(self):
        number = len(self.views)
        return self.choice.choice([f"v{number}:", f"v{number}:", f"v{number}/", f"v{number}{{h}}:", f"v{number} é'\"%:"])

    def view(self, how, rule, **more):
        view = View(len(self.views), how, caches=tuple(rule.get("caches", self.caches)), **more)
        self.views.append(view)
        return view

    def hole(self, columns, join=None):
        choice = self.choice
        column = choice.choice(columns)
        path = filters = ()
        if column.kind in ("json", "jsonb") and choice.random() < 0.85:
            path = choice.choice(PATHS)
        elif column.kind.endswith("[]") and choice.random() < 0.8:
            path = ["*"]
        elif column.kind in ("date", "timestamp", "timestamptz") and choice.random() < 0.4:
            filters = (choice.choice(["date('%Y-%m-%d')", "date('%Y/%m')"]),)
        elif column.kind == "big":
            filters = ("md5",)
        if not filters and choice.random() < 0.4:
            filters = tuple(choice.sample(["lower", "upper", "trim", "urlencode", "md5", "sha1", "sha256", "default('none')", "default('')"], choice.randint(1, 2)))
        elif choice.random() < 0.2:
            filters = (*filters, "default('none')")
        return Hole(column, path, filters, join)

    def template(self, prefix, columns, join=None, most=3):
        holes, stars = [], 0
        for _ in range(self.choice.choice([1, 1, 1, 2, most])):
            hole = self.hole(columns, join)
            stars += "*" in hole.path
            if stars < 2 or "*" not in hole.path:
                holes.append(hole)
        return Template(prefix, holes, self.choice.choice([":", ":", "|", "-", "/x/"]))

    def where(self, table):
        """-> (of the rule, as SQL, the columns)"""
        choice = self.choice
        usable = [column for column in table.columns if column.kind in EQUAL or column.kind in ORDERED]
        rule, sql, used = {}, [], []
        for column in choice.sample(usable, min(len(usable), choice.choice([1, 1, 2]))):
            text = text_of(f"r.{column.sql}", column.kind)
            values = [self.printed(column.kind, value) for value in TYPES[column.kind] if value not in ("NaN",)]
            if column.kind in ORDERED and choice.random() < 0.5:
                name, operator = choice.choice([("gt", ">"), ("gte", ">="), ("lt", "<"), ("lte", "<=")])
                bound = ORDERED[column.kind]
                rule[column.name] = {name: Number(bound) if re.fullmatch(r"-?[\d.]+", bound) else bound}
                sql.append(f"r.{column.sql} {operator} {literal(bound)}::{column.kind}")
            elif column.kind in EQUAL:
                some = choice.sample(values, min(len(values), choice.choice([1, 2])))
                with_null = column.null and choice.random() < 0.3
                stated = [*some, None] if with_null else some[0] if len(some) == 1 and choice.random() < 0.5 else some
                chosen = some if isinstance(stated, list) else [stated]
                listed = ", ".join(map(literal, chosen))
                if choice.random() < 0.3:
                    rule[column.name] = {"not": stated}
                    sql.append(f"({text} not in ({listed}){' and' if with_null else ' or'} {text} is {'not ' if with_null else ''}null)")
                else:
                    rule[column.name] = stated
                    sql.append(f"({text} in ({listed}){f' or {text} is null' if with_null else ''})")
            else:
                continue
            used.append(column)
        return rule, " and ".join(sql) or "true", used

    def draw_rule(self, number):
        choice = self.choice
        table = choice.choice(self.tables)
        rule = {"name": f"rule{number}", "table": table.rule_name}
        if len(self.caches) > 1 and choice.random() < 0.4:
            rule["caches"] = [choice.choice(self.caches)]
        if choice.random() < 0.3:
            rule["settle"] = choice.choice(["700ms", "1s", "2s"])
        if choice.random() < 0.2:
            rule["collapse_after"] = choice.choice([1, 5])
        if choice.random() < 0.3:
            rule["purge_every"] = choice.choice(["0s", "100ms"])
        kind = choice.choice(["keys"] * 6 + ["via"] * 3 + ["single", "single", "single", "insert_delete", "crosses", "bump", "purge", "version", "several", "child"])
        getattr(self, f"draw_{kind}")(rule, table)
        if any(name in rule for name in ("keys", "tags", "bump", "purge")):
            self.rules.append(rule)

    def conditions(self, rule, table, used):
        """Draws `where` and which columns matter, and returns (columns that a value may show, where as SQL)."""
        choice = self.choice
        where_sql = "true"
        if choice.random() < 0.55:
            where, where_sql, more = self.where(table)
            if where:
                rule["where"] = where
                used = [*used, *more]
        seen = list(table.columns)
        if choice.random() < 0.3:
            free = [column for column in table.columns if column not in used]
            some = choice.sample(free, choice.randint(0, len(free)))
            if choice.random() < 0.5:
                seen = [column for column in table.columns if column in used or column in some]
                rule["when_changed"] = [column.name for column in seen]
            elif some:
                seen = [column for column in table.columns if column not in some]
                if table.generated and table.generated not in some and any(column.name == "stock" for column in some):
                    seen.remove(table.generated)  # it is made of what is ignored
                rule["ignore_changed"] = [column.name for column in some] + (["v"] if table.version and choice.random() < 0.5 else [])
        return seen, where_sql

    def fill(self, rule):
        how = self.choice.choice(["plain", "plain", "leased", "checked", "checked", "stale"])
        if how in ("checked", "stale"):
            rule["fill"] = "checked"
            rule.pop("settle", None)
        if how == "stale":
            rule.update(mode="stale", grace="20s")
        return how

    def draw_keys(self, rule, table):
        choice = self.choice
        how = self.fill(rule)
        planned = [(False, self.template("", table.columns)) for _ in range(choice.choice([1, 1, 2]))]
        if choice.random() < 0.5:
            planned.append((True, self.template("", table.columns, most=1)))
        lazy = how in ("checked", "stale") and planned[-1][0] and choice.random() < 0.5
        fixed = [hole.column.name for _, template in planned for hole in template.holes if hole.column.fixed]
        if fixed and choice.random() < 0.5:
            rule["immutable"] = sorted(set(fixed))
        if lazy:
            rule["tags_mode"] = "lazy"
        seen, where = self.conditions(rule, table, [hole.column for _, template in planned for hole in template.holes])
        for is_tag, template in planned:
            template.prefix = self.prefix()
            view = self.view("lazy" if is_tag and lazy else how, rule, tag=is_tag)
            rule.setdefault("tags" if is_tag else "keys", []).append(template.text())
            view.parts.append(Part(rule["name"], f"{table.sql} r", template, [column.seen("r") for column in seen], where))
            key = {hole.column for hole in template.holes if not hole.path and set(hole.filters) <= {"md5", "sha1"}}
            is_sent = table.identity == "full" or {hole.column for hole in template.holes} <= set(table.key)
            view.is_quiet = not is_tag and set(table.key) <= key and is_sent and self.never_collapses(rule)

    def draw_single(self, rule, table):
        """One key by the primary key alone: what can be audited and refreshed by a query."""
        choice = self.choice
        how = self.fill(rule)
        template = Template(self.prefix(), [Hole(column) for column in table.key])
        seen, where = self.conditions(rule, table, list(table.key))
        view = self.view(how, rule)
        part = Part(rule["name"], f"{table.sql} r", template, [column.seen("r") for column in seen], where)
        view.parts.append(part)
        view.is_quiet = self.never_collapses(rule)
        rule["keys"] = [template.text()]
        columns = ", ".join(f"r.{column.sql}" for column in table.key)
        asked = " and ".join(f"r.{column.sql}::text = any(${number})" for number, column in enumerate(table.key, 1))
        query = f"select {columns}, {part.row} from {table.sql} r where {where} and {asked}"
        if "fill" in rule and choice.random() < 0.5:
            rule["refresh"] = {"query": query, "ttl": "1h"}
        else:
            rule["audit"] = {"query": query}

    def never_collapses(self, rule):
        return "collapse_after" not in {**self.defaults, **rule}

    def draw_several(self, rule, _):
        """One rule for several tables, by the columns that all of them have."""
        tables = self.choice.sample(self.tables, min(2, len(self.tables)))
        rule["table"] = [table.rule_name for table in tables]
        how = self.fill(rule)
        shared = [column for column in tables[0].columns if column.name in ("id", "ref", "born", "stock")]
        template = self.template(self.prefix(), shared)
        rule["keys"] = [template.text()]
        view = self.view(how, rule)
        view.parts += [Part(rule["name"], f"{table.sql} r", template, [column.seen("r") for column in table.columns]) for table in tables]

    def draw_child(self, rule, table):
        """A rule of one partition, beside those of the root."""
        if table.layout != "partitioned":
            return self.draw_keys(rule, table)
        rule["table"] = self.choice.choice(table.children)
        template = self.template("", table.columns)
        how = self.fill(rule)
        seen, where = self.conditions(rule, table, [hole.column for hole in template.holes])
        template.prefix = self.prefix()
        rule["keys"] = [template.text()]
        self.view(how, rule).parts.append(Part(rule["name"], f"{rule['table']} r", template, [column.seen("r") for column in seen], where))
        return None

    def draw_insert_delete(self, rule, table):
        fixed = [column for column in table.columns if column.fixed]
        rule["on"] = ["insert", "delete", "truncate"]
        how = self.fill(rule)
        template = Template(self.prefix(), [Hole(self.choice.choice(fixed))])
        rule["keys"] = [template.text()]
        self.view(how, rule).parts.append(Part(rule["name"], f"{table.sql} r", template, [column.seen("r") for column in fixed]))

    def draw_crosses(self, rule, table):
        fixed = [column for column in table.columns if column.fixed]
        rule["where"] = {"stock": {"crosses": Number("1")}}
        how = self.fill(rule)
        template = Template(self.prefix(), [Hole(self.choice.choice(fixed))])
        rule["keys"] = [template.text()]
        self.view(how, rule).parts.append(Part(rule["name"], f"{table.sql} r", template, ["coalesce(sign(r.stock - 1)::text, '~')"]))

    def draw_bump(self, rule, table):
        template = self.template("", table.columns, most=2)
        seen, where = self.conditions(rule, table, [hole.column for hole in template.holes])
        template.prefix = self.prefix()
        rule["bump"] = [template.text()]
        self.view("counted", rule).parts.append(Part(rule["name"], f"{table.sql} r", template, [column.seen("r") for column in seen], where))

    def draw_purge(self, rule, table):
        seen, where = self.conditions(rule, table, [])
        number = len(self.views)
        rule["purge"] = [self.choice.choice([f"v{number}:*", f"v{number}:[a-z]*", f"v{number}:?ll"])]
        self.view("plain", rule).parts.append(Part(rule["name"], f"{table.sql} r", Template(f"v{number}:all", []), [column.seen("r") for column in seen], where))

    def draw_version(self, rule, table):
        if not table.version:
            return self.draw_keys(rule, table)
        rule.update(fill="checked", version={"column": "v"})
        rule.pop("settle", None)
        template = Template(self.prefix(), [Hole(column) for column in table.key])
        rule["keys"] = [template.text()]
        view = self.view("versioned", rule, absent=False)
        view.parts.append(Part(rule["name"], f"{table.sql} r", template, ["r.v::text", *[column.seen("r") for column in table.columns]]))
        return None

    def draw_via(self, rule, table):
        choice = self.choice
        one, two = choice.choice(self.tables), choice.choice(self.tables)
        to_one = choice.choice([{"id": "ref"}, {"ref": "id"}, {"id": "ref", "born": "born"}, {"id": "id"}])
        rule["via"] = {"j1": {"table": one.rule_name, "match": to_one}}
        source = f"{table.sql} r join {one.sql} j1 on " + " and ".join(f"j1.{mine} = r.{other}" for mine, other in to_one.items())
        last, name, shown = one, "j1", [f"j1.{mine}::text" for mine in to_one]
        if choice.random() < 0.4:
            match = choice.choice([{"id": "j1.ref"}, {"ref": "j1.id"}])
            rule["via"]["j2"] = {"table": two.rule_name, "match": match}
            source += f" join {two.sql} j2 on " + " and ".join(f"j2.{mine} = {other}" for mine, other in match.items())
            last, name = two, "j2"
        if choice.random() < 0.2:
            rule["fan_out"] = 3
        how = self.fill(rule)
        is_tag = choice.random() < 0.3
        template = self.template("", last.columns, name, most=2)
        seen, where = self.conditions(rule, table, [column for column in table.columns if column.name in ("id", "ref", "born")])
        template.prefix = self.prefix()
        rule["tags" if is_tag else "keys"] = [template.text()]
        view = self.view(how, rule, tag=is_tag)
        shown += [hole.column.seen(name) for hole in template.holes]
        view.parts.append(Part(rule["name"], source, template, [column.seen("r") for column in seen] + [f"coalesce({one}, '~')" for one in shown], where))

    def share(self):
        """A second rule that makes the keys of a view from another table's columns."""
        choice = self.choice
        views = [view for view in self.views if len(view.parts) == 1 and view.how in ("plain", "checked") and not view.tag and view.parts[0].template.holes
                 and not {"via", "refresh", "audit", "on"} & set(self.rule_of(view)) and "crosses" not in str(self.rule_of(view)) and "keys" in self.rule_of(view)]
        if not views:
            return
        view, table = choice.choice(views), choice.choice(self.tables)
        theirs = view.parts[0].template
        # Names of columns may differ, nothing else may.
        holes = [Hole(choice.choice([column for column in table.columns if column.kind == hole.column.kind] or [None]), hole.path, hole.filters) for hole in theirs.holes]
        if any(hole.column is None for hole in holes):
            return
        template = Template(theirs.prefix, holes, theirs.separator)
        first = self.rule_of(view)
        rule = {"name": f"rule{len(self.rules) + 20}", "table": table.rule_name, "keys": [template.text()],
                **{name: first[name] for name in ("fill", "caches", "settle") if name in first}}
        self.rules.append(rule)
        view.parts.append(Part(rule["name"], f"{table.sql} r", template, [column.seen("r") for column in table.columns]))
        view.is_quiet = False

    def rule_of(self, view):
        name = view.parts[0].rule
        return next(rule for rule in self.rules if rule["name"] == name)


def alterations(choice, drawing, table, publication):
    """What may be done to a table while it is in use: lists of statements, one transaction each. Its rules hold afterwards, too."""
    where = {name for rule in drawing.rules for name in rule.get("where", {})}
    name, free = table.sql, [column for column in table.columns if column not in table.key]
    renamed = choice.choice(free).sql
    dropped = choice.choice([column for column in free if not column.fixed and column is not table.generated])
    schema, bare = name.split(".", 1)
    found = [[f"alter table {name} rename {renamed} to elsewhere", f"alter table {name} rename elsewhere to {renamed}"],
             [f"alter table {name} rename {renamed} to elsewhere; update {name} set elsewhere = elsewhere; alter table {name} rename elsewhere to {renamed}"],
             [f"alter table {name} rename to elsewhere", f"alter table {schema}.elsewhere rename to {bare}"],
             [f"alter table {name} alter column stock type integer using case when stock < 1000 then stock + 1 end"],
             [f"alter table {name} add column more{choice.randrange(10**6)} text default 'more'"],
             [f"alter table {name} drop column {dropped.sql}; alter table {name} add column {dropped.sql} {'text' if dropped.kind == 'big' else dropped.kind}"]]
    names = [name, *table.children]
    if table.identity not in ("nothing", "index"):
        found += [["; ".join(f"alter table {one} replica identity {choice.choice(['full', 'default'])}" for one in names)]]
    if table.layout == "plain":
        found += [[f"alter publication {publication} drop table {name}; alter table {name} set unlogged", f"alter table {name} set logged"]]
    if table.layout != "partitioned":
        found += [[f"alter publication {publication} drop table {choice.choice(names)}"],
                  [f"alter publication {publication} set (publish = '{publish}')" for publish in ("insert", "insert, update, delete, truncate")]]
    if table.spare:
        found += [[f"alter table {name} drop column spare", f"alter table {name} add column spare text"]]
    kinds = {column.kind for column in table.columns}
    if {"mood", "mood[]"} & kinds and not any(column.kind == "mood" and column.name in where for one in drawing.tables for column in one.columns):
        found += [["alter type mood rename value 'ok' to 'okay'"]] * 2
    if "point_pair" in kinds:
        found += [["alter type point_pair add attribute more integer"], ["alter type point_pair drop attribute label"]]
    # Another table in its place. A rule with `via` would say for a moment that its role may not read it.
    if table.layout == "plain" and not table.version and table.identity == "full" and not table.generated and not any("via" in rule for rule in drawing.rules):
        found += [[f"create table {schema}.twin (like {name} including all); alter table {schema}.twin replica identity full; "
                   f"insert into {schema}.twin select * from {name} where id % 3 > 0",
                   f"alter table {name} rename to gone; alter table {schema}.twin rename to {bare}", f"drop table {schema}.gone"]]
    wider = {"numeric(8,2)": "numeric(9,3)", "integer[]": "bigint[]", "varchar(20)": "text", "smallint": "integer"}
    found += [[f"alter table {name} alter column {column.sql} type {wider[column.kind]}"]
              for column in free if column.kind in wider and (column.name not in where or "numeric" not in column.kind)][:1]
    if table.layout == "partitioned":
        found += [[f"alter table {name} detach partition {table.children[1]}", f"alter table {name} attach partition {table.children[1]} for values in (1)"]] * 2
    if table.layout == "inherited":
        found += [[f"alter table {table.children[0]} no inherit {name}", f"alter table {table.children[0]} inherit {name}"]]
    return found


def yaml_of(rules, defaults=None):
    """JSON is YAML, but for a number that is to stay as it is written."""
    def text(value):
        if isinstance(value, Number):
            return str(value)
        if isinstance(value, dict):
            return "{" + ", ".join(f"{text(name)}: {text(one)}" for name, one in value.items()) + "}"
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(map(text, value)) + "]"
        return json.dumps(value, ensure_ascii=False)

    listed = "".join(f"- {text(rule)}\n" for rule in rules) or "[]\n"
    return f"defaults: {text(defaults)}\nrules:\n{listed}" if defaults else listed
