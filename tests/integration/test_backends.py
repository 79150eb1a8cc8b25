"""The servers themselves: each answers over its own protocol, and the broker survives being killed."""

from __future__ import annotations

import asyncio

import aiormq
import asyncpg
import pytest
from eth_account import Account
from pamqp.commands import Basic
from web3 import AsyncHTTPProvider, AsyncWeb3

from tests.backends import Backends

pytestmark = pytest.mark.backends


async def test_versions_come_from_the_servers(backends: Backends) -> None:
    versions = await backends.versions()
    assert versions["broker"].startswith("RabbitMQ ")
    assert int(versions["database"].removeprefix("PostgreSQL ").split(".")[0]) >= 15
    assert versions["node"].startswith("anvil/")


async def test_a_database_of_ones_own_is_empty_and_synchronous(backends: Backends) -> None:
    connection = await asyncpg.connect(await backends.new_database())
    assert await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
    assert await connection.fetchval("show synchronous_commit") == "on"
    await connection.close()


async def test_a_funded_key_sends_a_transaction_that_becomes_final(backends: Backends) -> None:
    account = Account.create()
    await backends.fund(account.address)
    web3 = AsyncWeb3(AsyncHTTPProvider(backends.eth_url))
    transaction = {
        "to": account.address,
        "value": 1,
        "gas": 21_000,
        "nonce": 0,
        "chainId": await web3.eth.chain_id,
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
    }
    signed = account.sign_transaction(transaction)
    sent = await web3.eth.send_raw_transaction(signed.raw_transaction)
    receipt = await web3.eth.wait_for_transaction_receipt(sent)
    assert receipt["status"] == 1
    await backends.rpc("anvil_mine", 3)
    final = await web3.eth.get_block("finalized")
    assert final["number"] >= receipt["blockNumber"]
    await web3.provider.disconnect()


async def test_a_confirmed_message_outlives_a_killed_broker(own_backends: Backends) -> None:
    uri = await own_backends.new_vhost()
    connection = await aiormq.connect(uri)
    channel = await connection.channel(publisher_confirms=True)
    await channel.queue_declare("kept", durable=True)
    await channel.basic_publish(
        b"one", routing_key="kept", mandatory=True, properties=Basic.Properties(delivery_mode=2), timeout=10
    )
    await asyncio.sleep(5)  # a broker killed in the first seconds of a queue may forget the queue itself
    await own_backends.broker_kill()
    await own_backends.broker_start()
    connection = await aiormq.connect(uri)
    channel = await connection.channel()
    async with asyncio.timeout(20):  # the broker answers before all of its queues are back
        while (await channel.basic_get("kept", no_ack=True)).body != b"one":
            await asyncio.sleep(0.1)
    await connection.close()
