// A client that is not Python, made from the published WSDL by npm's `soap`: submits, fetches, acknowledges, gives back
// and reads a fault. Facts come as JSON on standard input, what was seen goes out as JSON.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const facts = JSON.parse(readFileSync(0, "utf8"));
const soap = createRequire(`${facts.modules}/`)("soap");
const NS = "urn:lgsp:exchange:1";

async function clientFor(token) {
  const client = await soap.createClientAsync(facts.wsdl, { forceSoap12Headers: facts.soap12 });
  client.setEndpoint(facts.endpoint);
  client.addHttpHeader("Authorization", `Bearer ${token}`);
  return client;
}

const sender = await clientFor(facts.sender);
const receiver = await clientFor(facts.receiver);
const seen = { operations: Object.keys(sender.describe().Exchange[facts.port]).sort(), receipts: [], states: [] };

for (const message of facts.messages) {
  sender.clearSoapHeaders();
  sender.addSoapHeader({ Manifest: message.manifest }, "", "lgsp", NS);
  const [receipt] = await sender.SubmitMessageAsync({ contentType: "application/json", payload: message.payload });
  seen.receipts.push(receipt.messageId);
}
sender.clearSoapHeaders();

const [inbox] = await receiver.FetchInboxAsync({ wait: 5, max: 200 });
const byMessage = new Map(inbox.delivery.map((delivery) => [delivery.messageId, delivery]));
const [first, second] = seen.receipts.map((id) => byMessage.get(id));
seen.payload = first.payload;
const [acknowledged] = await receiver.AckDeliveryAsync({ deliveryId: first.deliveryId });
const [back] = await receiver.NackDeliveryAsync({ deliveryId: second.deliveryId, reason: "thiếu", final: true });
seen.settled = [acknowledged.state, back.state];
for (const messageId of seen.receipts) {
  const [status] = await sender.GetStatusAsync({ messageId });
  seen.states.push(status.state);
}
const [receipt] = await sender.GetReceiptAsync({ messageId: seen.receipts[0] });
seen.proof = [].concat(receipt.delivery).map((one) => one.receiver);
try {
  await sender.GetStatusAsync({ messageId: "00000000-0000-7000-8000-000000000000" });
} catch (error) {
  const fault = error.root.Envelope.Body.Fault;
  seen.fault = (fault.detail ?? fault.Detail).Problem.reason;
}
process.stdout.write(JSON.stringify(seen));
