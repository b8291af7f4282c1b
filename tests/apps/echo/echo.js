// SPDX-License-Identifier: Apache-2.0
// The echo program (lib/echo.sh) for node: streams, pipe(), back-pressure by events.
'use strict';
const crypto = require('crypto');
const net = require('net');

const QUESTIONS = 2000;
const CLIENTS = 4; // at once

function options(text) {
	const [kind, ...rest] = text.split(':');
	return kind === 'unix' ? { path: rest.join(':') } : { host: rest[0], port: Number(rest[1]) };
}

function fail(message) {
	console.error(message);
	process.exit(1);
}

function serve(text) {
	const server = net.createServer({ allowHalfOpen: true }, (socket) => {
		socket.on('error', (error) => console.log(`server: ${error.message}`));
		socket.pipe(socket);
	});
	process.on('SIGTERM', () => process.exit(0));
	server.listen(options(text), () => console.log('ready'));
}

function ask(text) {
	return new Promise((resolve) => {
		const socket = net.connect({ ...options(text), noDelay: true });
		let number = 0, came = '';
		const next = () => socket.write(`question ${number}\n`);
		socket.setEncoding('latin1');
		socket.on('connect', next);
		socket.on('error', (error) => fail(error.message));
		socket.on('data', (part) => {
			came += part;
			if (!came.endsWith('\n'))
				return;
			if (came !== `question ${number}\n`)
				fail(`wrong answer to question ${number}: ${came}`);
			came = '';
			if (++number < QUESTIONS)
				next();
			else
				socket.end();
		});
		socket.on('close', () => resolve());
	});
}

function sendMuch(text, size, chunk) {
	return new Promise((resolve) => {
		const block = crypto.randomBytes(size);
		const digest = crypto.createHash('sha256');
		const socket = net.connect({ ...options(text), allowHalfOpen: true });
		let at = 0, received = 0;
		const send = () => {
			while (at < size) {
				const part = block.subarray(at, at + chunk);
				at += part.length;
				if (!socket.write(part))
					return socket.once('drain', send);
			}
			return socket.end();
		};
		socket.on('connect', send);
		socket.on('error', (error) => fail(error.message));
		socket.on('data', (part) => {
			received += part.length;
			digest.update(part);
		});
		socket.on('end', () => {
			if (digest.digest('hex') !== crypto.createHash('sha256').update(block).digest('hex'))
				fail(`${received} of ${size} bytes came back, or wrong ones`);
			resolve();
		});
	});
}

async function main() {
	const [role, text, size] = process.argv.slice(2);
	if (role === 'server')
		return serve(text);
	await ask(text);
	await sendMuch(text, Number(size), 65536);
	await Promise.all([...Array(CLIENTS).keys()].map((i) => sendMuch(text, 1000000 + i, 777 * (i + 1))));
	return undefined;
}

main();
