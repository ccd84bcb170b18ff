"""Keeps every suggestion that was raised, once each, in a database of its own. Needs aiokafka and nothing of Maru."""

import asyncio
import json
import os
import sqlite3

from aiokafka import AIOKafkaConsumer


async def main() -> None:
    db = sqlite3.connect(os.environ["DATABASE"])
    db.execute("CREATE TABLE IF NOT EXISTS seen (source, id, PRIMARY KEY (source, id))")
    db.execute("CREATE TABLE IF NOT EXISTS suggestion (case_id, title)")
    wanted = {"group_id": "road-team", "auto_offset_reset": "earliest", "enable_auto_commit": False}
    async with AIOKafkaConsumer("maru.issues.v1", bootstrap_servers=os.environ["KAFKA"], **wanted) as consumer:
        async for record in consumer:
            head = {name: value.decode() for name, value in record.headers}
            with db:  # one transaction: that it was seen, and what came of it
                seen = db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (head["ce_source"], head["ce_id"]))
                if seen.rowcount and head["ce_type"].startswith("maru.issues.IssueRaised."):
                    if not head["ce_type"].endswith(".v1"):
                        raise SystemExit(f"{head['ce_type']}: a version that this program cannot read")
                    event = json.loads(record.value)
                    db.execute("INSERT INTO suggestion VALUES (?, ?)", (event["case_id"], event["data"]["title"]))
            await consumer.commit()


asyncio.run(main())
