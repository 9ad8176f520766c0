// Loaded before Portkey's gateway, which is otherwise as npm has it.
const { Server } = require('node:net')

// It listens on every interface and has no option for one: with this it listens on 127.0.0.1.
const listen = Server.prototype.listen
Server.prototype.listen = function (first, ...rest) {
  const options = typeof first === 'object' ? first : { port: first }
  return listen.call(this, { ...options, host: '127.0.0.1' }, ...rest.filter((one) => typeof one === 'function'))
}

// From npm, every stream of it fails with "TypeError: immutable" (github.com/Portkey-AI/gateway/issues/1389): it writes
// into the headers that fetch returned. With this they are a copy, which it may write into.
const { fetch, Headers, Response } = globalThis
globalThis.fetch = async (...request) => {
  const { body, headers, status, statusText } = await fetch(...request)
  return new Response(body, { headers: new Headers(headers), status, statusText })
}
