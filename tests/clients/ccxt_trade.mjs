// ccxt in JavaScript, unchanged, trades on Clearbook as if it were Binance, and watches. Order ids lie beyond what its numbers hold.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.env.CLEARBOOK_NODE, "package.json"));
const ccxt = require("ccxt");
const url = process.env.CLEARBOOK_URL;
const streams = url.replace("http", "ws");
const pair = process.env.CLEARBOOK_PAIR.replace("-", "/");

// In place of Binance's own addresses: what is asked there must not be able to leave, the key goes with it.
const nowhere = (urls) =>
  Object.fromEntries(Object.entries(urls).map(([name, at]) => [name, typeof at === "object" ? nowhere(at) : `${url}/nowhere`]));

async function client(user) {
  const [apiKey, secret] = process.env[`CLEARBOOK_${user}`].split(":");
  const options = { fetchMarkets: { types: ["spot"] }, fetchCurrencies: false, fetchMargins: false };
  const made = new ccxt.pro.binance({ apiKey, secret, options, enableRateLimit: false });
  made.urls.api = Object.assign(nowhere(made.urls.api), { public: `${url}/api/v3`, private: `${url}/api/v3` });
  made.urls.api.ws.spot = `${streams}/ws`;
  made.urls.api.ws["ws-api"].spot = `${streams}/ws-api/v3`;
  await made.loadHttpProxyAgent(); // ccxt asks for one where ws:// is not wss://
  await made.loadMarkets();
  return made;
}

const seller = await client("SELLER");
const buyer = await client("BUYER");
try {
  const watched = [seller.watchOrderBook(pair), buyer.watchOrders(pair), buyer.watchBalance(), seller.watchTrades(pair)];
  await new Promise((resolve) => setTimeout(resolve, 1000)); // what is watched begins with what comes after
  const sell = await seller.createOrder(pair, "limit", "sell", 0.3, 30000);
  const found = await seller.fetchOrder(sell.id, pair);
  assert.equal(found.id, sell.id);
  assert.ok(BigInt(found.id) > 2n ** 53n);
  const taken = await buyer.createOrder(pair, "market", "buy", 0.1);
  assert.deepEqual([taken.status, taken.filled, taken.cost], ["closed", 0.1, 3000]);
  const [, orders, balance, trades] = await Promise.all(watched);
  let book = await seller.watchOrderBook(pair);
  while (book.asks.length === 0) book = await seller.watchOrderBook(pair);
  assert.equal(book.asks[0][0], 30000);
  assert.equal(orders[0].symbol, pair);
  assert.ok(balance.info);
  assert.equal(trades[0].amount, 0.1);
  const moved = await seller.editOrder(sell.id, pair, "limit", "sell", 0.2, 31000);
  assert.deepEqual([moved.price, moved.amount], [31000, 0.2]);
  assert.equal((await seller.cancelOrder(moved.id, pair)).status, "canceled");
  await assert.rejects(seller.cancelOrder(moved.id, pair), ccxt.OrderNotFound);
  assert.deepEqual((await buyer.fetchMyTrades(pair)).map((trade) => trade.amount), [0.1]);
  assert.equal((await seller.fetchOrders(pair)).length, 2);
  assert.equal((await buyer.fetchTicker(pair)).last, 30000);
  assert.ok((await buyer.fetchTickers([pair]))[pair].baseVolume > 0);
  assert.equal((await buyer.fetchTrades(pair)).length, 1);
  assert.ok((await buyer.fetchOHLCV(pair, "1m")).at(-1)[5] > 0);
  assert.ok((await buyer.fetchBalance())[pair.split("/")[0]].free > 0);
} finally {
  await seller.close();
  await buyer.close();
}
