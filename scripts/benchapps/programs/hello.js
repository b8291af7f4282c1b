// SPDX-License-Identifier: Apache-2.0
// hello.js PORT: an HTTP server with a short answer.
'use strict';
const http = require('http');
const body = 'hello '.repeat(10);
http.createServer((request, response) => {
	response.setHeader('Content-Type', 'text/plain');
	response.end(body);
}).listen(Number(process.argv[2]), '127.0.0.1');
