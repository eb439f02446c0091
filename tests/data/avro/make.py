"""Makes the vectors beside it: one event in Avro, as fastavro (PyPI) writes it, and in JSON, as Connect's JsonConverter does; and the
corpus of tests/fuzz. By hand, when they are to change:

    pip install fastavro && python3 tests/data/avro/make.py
"""

import base64
import io
import json
import os
import struct

import fastavro

HERE = os.path.dirname(os.path.abspath(__file__))


def enc(schema, value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), value)
    return out.getvalue()


# As Confluent's and Apicurio's converters name types.
row={"type":"record","name":"Value","fields":[
 {"name":"id","type":"int"},
 {"name":"big","type":["null","long"],"default":None},
 {"name":"small","type":["null",{"type":"int","connect.type":"int16"}],"default":None},
 {"name":"slug","type":[{"type":"string","connect.default":"none"},"null"],"default":"none"},
 {"name":"ok","type":["null","boolean"],"default":None},
 {"name":"price","type":["null",{"type":"bytes","scale":2,"precision":10,"connect.version":1,"connect.parameters":{"scale":"2","connect.decimal.precision":"10"},"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}],"default":None},
 {"name":"free","type":["null",{"type":"record","name":"VariableScaleDecimal","namespace":"io.debezium.data","fields":[{"name":"scale","type":"int"},{"name":"value","type":"bytes"}],"connect.doc":"Variable scaled decimal","connect.version":1,"connect.name":"io.debezium.data.VariableScaleDecimal"}],"default":None},
 {"name":"real","type":["null","float"],"default":None},
 {"name":"dbl","type":["null","double"],"default":None},
 {"name":"day","type":["null",{"type":"int","connect.version":1,"connect.name":"io.debezium.time.Date"}],"default":None},
 {"name":"cday","type":["null",{"type":"int","connect.version":1,"connect.name":"org.apache.kafka.connect.data.Date","logicalType":"date"}],"default":None},
 {"name":"clock","type":["null",{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroTime"}],"default":None},
 {"name":"at","type":["null",{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroTimestamp"}],"default":None},
 {"name":"zoned","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.time.ZonedTimestamp"}],"default":None},
 {"name":"uid","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Uuid"}],"default":None},
 {"name":"doc","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Json"}],"default":None},
 {"name":"raw","type":["null","bytes"],"default":None},
 {"name":"bits","type":["null",{"type":"bytes","connect.version":1,"connect.parameters":{"length":"3"},"connect.name":"io.debezium.data.Bits"}],"default":None},
 {"name":"mood","type":["null",{"type":"enum","name":"Mood","symbols":["sad","happy"]}],"default":None},
 {"name":"ints","type":["null",{"type":"array","items":["null","int"]}],"default":None},
 {"name":"texts","type":["null",{"type":"array","items":["null","string"]}],"default":None},
 {"name":"map","type":["null",{"type":"map","values":["null","string"]}],"default":None},
 {"name":"fix","type":["null",{"type":"fixed","name":"Four","size":4}],"default":None}],
 "connect.name":"shop.public.items.Value"}
env={"type":"record","name":"Envelope","namespace":"shop.public.items","fields":[
 {"name":"before","type":["null",row],"default":None},
 {"name":"after","type":["null","Value"],"default":None},
 {"name":"source","type":{"type":"record","name":"Source","namespace":"io.debezium.connector.postgresql","fields":[
   {"name":"connector","type":"string"},{"name":"name","type":"string"},{"name":"ts_ms","type":"long"},
   {"name":"schema","type":"string"},{"name":"table","type":"string"},{"name":"txId","type":["null","long"],"default":None}],"connect.name":"io.debezium.connector.postgresql.Source"}},
 {"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"],"default":None}],"connect.name":"shop.public.items.Envelope","connect.version":1}
key={"type":"record","name":"Key","namespace":"shop.public.items","fields":[{"name":"id","type":"int"}],"connect.name":"shop.public.items.Key"}
old={"id":7,"big":9007199254740993,"small":-3,"slug":"a \"b\"\\\n\u00e9","ok":True,"price":b"\xfb\x2e","free":{"scale":3,"value":b"\x01\x86\xa0"},
 "real":-3.4e38,"dbl":0.1,"day":19756,"cday":-1,"clock":86399999999,"at":-1000,"zoned":"2024-02-03T04:05:06.789Z","uid":"b68a35a7-17ad-35b3-af2a-ae46edb4545a",
 "doc":"{\"k\": [1]}","raw":b"\x00\xff","bits":b"\x05","mood":"happy","ints":[1,None,-70000],"texts":["x y",None,""],"map":{"k":"v"},"fix":b"\x01\x02\x03\x04"}
new=dict(old, slug="none", big=None, ok=None, price=None, dbl=float("nan"), ints=[], texts=None)
src={"connector":"postgresql","name":"shop","ts_ms":1700000000000,"schema":"public","table":"items","txId":700}
val={"before":old,"after":new,"source":src,"op":"u","ts_ms":None}


CONNECT = {"int": "int32", "long": "int64", "fixed": "bytes", "enum": "string", "record": "struct"}


def connect_schema(schema, names, optional=False):
    """The schema that JsonConverter would have written."""
    if isinstance(schema, list):
        only, = [branch for branch in schema if branch != "null"]
        return connect_schema(only, names, True)
    if isinstance(schema, str):
        if schema in names:
            return {**names[schema], "optional": optional}
        return {"type": CONNECT.get(schema, schema), "optional": optional}
    kind = schema["type"]
    made = {"type": schema.get("connect.type", CONNECT.get(kind, kind)), "optional": optional}
    if kind == "record":
        made["fields"] = []
        for field in schema["fields"]:
            inner = {**connect_schema(field["type"], names), "field": field["name"]}
            if field.get("default") is not None:
                inner["default"] = field["default"]
            made["fields"].append(inner)
        names[schema["name"]] = made
    if kind == "array":
        made["items"] = connect_schema(schema["items"], names)
    if kind == "map":
        made["keys"], made["values"] = {"type": "string"}, connect_schema(schema["values"], names)
    if "connect.name" in schema:
        made["name"] = schema["connect.name"]
    if "connect.parameters" in schema:
        made["parameters"] = schema["connect.parameters"]
    return made


def connect_value(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: connect_value(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [connect_value(inner) for inner in value]
    return "NaN" if value != value else value  # pylint: disable=comparison-with-itself


def write(name, text):
    with open(f"{HERE}/{name}", "w", encoding="utf-8") as file:
        file.write(text + "\n")


def main():
    write("envelope.avsc", json.dumps(env))
    write("key.avsc", json.dumps(key))
    write("update.hex", enc(env, val).hex())
    write("delete.hex", enc(env, {**val, "op": "d", "after": None}).hex())
    write("key.hex", enc(key, {"id": 7}).hex())
    write("update_with_schema.json", json.dumps({"schema": connect_schema(env, {}), "payload": connect_value(val)}))
    write("update_bare.json", json.dumps(connect_value(val)))

    def put(name, schema, data):
        with open(f"{HERE}/../../fuzz/corpus/avro/{name}", "wb") as file:
            file.write((schema if isinstance(schema, str) else json.dumps(schema)).encode() + b"\n" + data)

    put('envelope',env,enc(env,val))
    put('key',key,enc(key,{"id":-62}))
    put('recursive',{"type":"record","name":"L","fields":[{"name":"v","type":"int"},{"name":"n","type":["null","L"]}]},bytes([2,2,4,2,6,0]))
    put('nulls',{"type":"array","items":"null"},bytes([0xfe,0xff,0xff,0xff,0xff,0xff,0xff,0xff,0xff,1,0]))
    put('block',{"type":"map","values":"double"},bytes([1,20,2,ord('a')])+struct.pack('<d',1e-5)+b"\0")
    put('self',{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]},b"")
    put('union',["null","string",{"type":"fixed","name":"F","size":0}],b"\x04")
    put('name','"string"',b"\x04ab")
    put('minimum','"long"',b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")


if __name__ == "__main__":
    main()
