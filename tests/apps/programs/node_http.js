// SPDX-License-Identifier: Apache-2.0
// An HTTP server, alone or with two workers of node's cluster module, and its keep-alive client.
// server ADDRESS | cluster ADDRESS | client ADDRESS; ADDRESS is tcp:HOST:PORT or unix:PATH.
'use strict';
const cluster = require('cluster');
const crypto = require('crypto');
const http = require('http');

const REQUESTS = 300;
const SOCKETS = 4;
const SIZES = [0, 1, 1000, 65535, 65537, 1000003];

function fail(message) {
	console.error(message);
	process.exit(1);
}

function options(text) {
	const [kind, ...rest] = text.split(':');
	return kind === 'unix' ? { socketPath: rest.join(':'), path: rest.join(':') }
		: { host: rest[0], port: Number(rest[1]) };
}

const bytes = (size) => Buffer.alloc(size, `${size} bytes `);
const digest = (block) => crypto.createHash('sha256').update(block).digest('hex');

function serve(text) {
	const { path, host, port } = options(text);
	const server = http.createServer((request, response) => {
		const parts = [];
		request.on('data', (part) => parts.push(part));
		request.on('end', () => {
			response.setHeader('Worker', process.pid);
			if (request.method === 'POST')
				response.end(digest(Buffer.concat(parts)));
			else
				response.end(bytes(Number(request.url.slice(1))));
		});
	});
	server.listen(path ? { path } : { host, port }, () => cluster.isPrimary && console.log('ready'));
}

function manage() {
	let listening = 0;
	for (let i = 0; i < 2; i++)
		cluster.fork();
	cluster.on('listening', () => ++listening === 2 && console.log('ready'));
	process.on('SIGTERM', () => cluster.disconnect(() => process.exit(0)));
}

function ask(agent, text, method, size) {
	return new Promise((resolve) => {
		const request = http.request({ ...options(text), agent, method, path: `/${method === 'GET' ? size : ''}` },
			(response) => {
				const parts = [];
				response.on('data', (part) => parts.push(part));
				response.on('end', () => {
					const answer = Buffer.concat(parts);
					const right = method === 'GET' ? answer.equals(bytes(size))
						: answer.toString() === digest(bytes(size));
					if (!right)
						fail(`${method} ${size}: wrong answer of ${answer.length} bytes`);
					resolve(response.headers.worker);
				});
			});
		request.on('error', (error) => fail(`${method} ${size}: ${error.message}`));
		request.end(method === 'POST' ? bytes(size) : undefined);
	});
}

async function client(text) {
	const agent = new http.Agent({ keepAlive: true, maxSockets: SOCKETS });
	const workers = new Set();
	const lane = async (number) => {
		for (let i = number; i < REQUESTS; i += SOCKETS)
			workers.add(await ask(agent, text, i % 3 ? 'GET' : 'POST', SIZES[i % SIZES.length]));
	};
	await Promise.all([...Array(SOCKETS).keys()].map(lane));
	agent.destroy();
	console.log(`info: ${workers.size} workers`);
}

const [role, text] = process.argv.slice(2);
if (role === 'client')
	client(text);
else if (role === 'cluster' && cluster.isPrimary)
	manage();
else
	serve(text);
if (role === 'server')
	process.on('SIGTERM', () => process.exit(0));
