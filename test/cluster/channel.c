// SPDX-License-Identifier: Apache-2.0
/*
 * Commands on a node, and the API server's port on the host, without ssh:
 *
 *   channel serve PORT                       on a node: runs what `run` sends
 *   channel run HOST PORT COMMAND [ARG...]   standard streams and exit status are passed through
 *   channel forward NETNS PORT HOST HOSTPORT 127.0.0.1:PORT here leads to HOST:HOSTPORT in another namespace
 *
 * After the words (length, then each with its NUL) both sides send frames: type, length, bytes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum frame_type { FRAME_STDIN, FRAME_STDOUT, FRAME_STDERR, FRAME_STATUS };

#define MAX_FRAME 65536
#define MAX_WORDS (1 << 20)

struct frame {
	uint8_t type;
	uint32_t length;
	char data[MAX_FRAME];
};

static int read_all(int fd, void *buffer, size_t length)
{
	char *at = buffer;

	while (length > 0) {
		ssize_t got = read(fd, at, length);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -1;
		at += got;
		length -= (size_t)got;
	}
	return 0;
}

static int write_all(int fd, const void *buffer, size_t length)
{
	const char *at = buffer;

	while (length > 0) {
		ssize_t put = write(fd, at, length);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno == EAGAIN) {
			struct pollfd wait = { .fd = fd, .events = POLLOUT };

			poll(&wait, 1, -1);
			continue;
		}
		if (put < 0)
			return -1;
		at += put;
		length -= (size_t)put;
	}
	return 0;
}

static int send_frame(int fd, enum frame_type type, const void *data, uint32_t length)
{
	unsigned char head[5] = { (unsigned char)type };
	uint32_t order = htonl(length);

	memcpy(head + 1, &order, sizeof(order));
	return write_all(fd, head, sizeof(head)) || write_all(fd, data, length) ? -1 : 0;
}

static int receive_frame(int fd, struct frame *frame)
{
	unsigned char head[5];
	uint32_t order;

	if (read_all(fd, head, sizeof(head)))
		return -1;
	memcpy(&order, head + 1, sizeof(order));
	frame->type = head[0];
	frame->length = ntohl(order);
	if (frame->length > MAX_FRAME)
		return -1;
	return read_all(fd, frame->data, frame->length);
}

static struct sockaddr_in endpoint(const char *host, const char *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };

	if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
		errx(2, "not an IPv4 address: %s", host);
	return address;
}

static int listen_on(const char *host, const char *port)
{
	struct sockaddr_in address = endpoint(host, port);
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 128))
		err(1, "cannot listen on %s:%s", host, port);
	return fd;
}

static int connect_to(const char *host, const char *port)
{
	struct sockaddr_in address = endpoint(host, port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* One child process for each connection; never returns. */
static void accept_each(int listener, void (*handle)(int fd, char **argument), char **argument)
{
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		if (fork() == 0) {
			signal(SIGCHLD, SIG_DFL);
			close(listener);
			handle(fd, argument);
			_exit(0);
		}
		close(fd);
	}
}

/* The words that a client sent, as argv; exits when they are none. */
static char **receive_words(int fd)
{
	uint32_t length;
	size_t count = 0;
	char *text, **words;

	if (read_all(fd, &length, sizeof(length)))
		_exit(1);
	length = ntohl(length);
	if (length == 0 || length > MAX_WORDS)
		_exit(1);
	text = calloc(1, length + 1);
	words = calloc(length + 1, sizeof(*words));
	if (!text || !words || read_all(fd, text, length))
		_exit(1);
	for (size_t at = 0; at < length; at += strlen(text + at) + 1)
		words[count++] = text + at;
	return words;
}

struct child {
	pid_t pid;
	int exited; /* readable once it has ended */
	int streams[3]; /* our ends of its standard input, output and error; -1 when closed */
};

static struct child start_child(char **words)
{
	struct child child;
	int pipes[3][2];

	for (int i = 0; i < 3; i++)
		if (pipe2(pipes[i], O_CLOEXEC))
			_exit(1);
	child.pid = fork();
	if (child.pid == 0) {
		setsid();
		dup2(pipes[0][0], 0);
		dup2(pipes[1][1], 1);
		dup2(pipes[2][1], 2);
		execvp(words[0], words);
		warn("cannot run %s", words[0]);
		_exit(errno == ENOENT ? 127 : 126);
	}
	close(pipes[0][0]);
	close(pipes[1][1]);
	close(pipes[2][1]);
	child.streams[0] = pipes[0][1];
	child.streams[1] = pipes[1][0];
	child.streams[2] = pipes[2][0];
	for (int i = 0; i < 3; i++)
		fcntl(child.streams[i], F_SETFL, O_NONBLOCK);
	child.exited = (int)syscall(SYS_pidfd_open, child.pid, 0);
	return child;
}

/* Hand on what a stream holds now; nothing more when it ends. */
static void pass_output(int fd, struct child *child, int stream)
{
	static char buffer[MAX_FRAME];

	while (child->streams[stream] >= 0) {
		ssize_t got = read(child->streams[stream], buffer, sizeof(buffer));

		if (got < 0)
			return;
		if (got == 0) {
			close(child->streams[stream]);
			child->streams[stream] = -1;
			return;
		}
		if (send_frame(fd, (enum frame_type)stream, buffer, (uint32_t)got)) {
			kill(-child->pid, SIGKILL);
			_exit(1);
		}
	}
}

/* Write what is left of a frame for the child's input; a length of 0 closes it. */
static void pass_input(struct child *child, struct frame *frame, uint32_t *done)
{
	ssize_t put;

	if (child->streams[0] < 0) {
		*done = frame->length;
		return;
	}
	put = frame->length > 0 ? write(child->streams[0], frame->data + *done, frame->length - *done) : -1;
	if (put >= 0) {
		*done += (uint32_t)put;
	} else if (frame->length == 0 || errno != EAGAIN) {
		close(child->streams[0]);
		child->streams[0] = -1;
		*done = frame->length;
	}
}

static void serve_one(int fd, char **unused)
{
	static struct frame frame;
	struct child child = start_child(receive_words(fd));
	uint32_t done = 0;
	int status = 0;

	(void)unused;
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int pending = done < frame.length;
		struct pollfd polls[] = {
			{ .fd = fd, .events = pending ? POLLRDHUP : POLLIN | POLLRDHUP },
			{ .fd = child.exited, .events = POLLIN },
			{ .fd = child.streams[1], .events = POLLIN },
			{ .fd = child.streams[2], .events = POLLIN },
			{ .fd = pending ? child.streams[0] : -1, .events = POLLOUT },
		};

		if (poll(polls, 5, -1) < 0)
			continue;
		if (polls[2].revents)
			pass_output(fd, &child, 1);
		if (polls[3].revents)
			pass_output(fd, &child, 2);
		if (polls[1].revents)
			break;
		if (polls[4].revents)
			pass_input(&child, &frame, &done);
		if (polls[0].revents & POLLIN && !pending) {
			done = 0;
			if (receive_frame(fd, &frame)) {
				kill(-child.pid, SIGKILL);
				_exit(1);
			}
			pass_input(&child, &frame, &done);
		} else if (polls[0].revents & (POLLRDHUP | POLLHUP | POLLERR)) {
			/* whoever asked is gone */
			kill(-child.pid, SIGKILL);
			_exit(1);
		}
	}
	/* something that the command left running may hold its output open: only what is there already */
	pass_output(fd, &child, 1);
	pass_output(fd, &child, 2);
	waitpid(child.pid, &status, 0);
	status = (int)htonl((uint32_t)(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)));
	send_frame(fd, FRAME_STATUS, &status, sizeof(status));
}

static void send_words(int fd, char **words)
{
	uint32_t length = 0, order;

	for (char **word = words; *word; word++)
		length += (uint32_t)strlen(*word) + 1;
	order = htonl(length);
	if (length > MAX_WORDS)
		errx(2, "the command is too long");
	write_all(fd, &order, sizeof(order));
	for (char **word = words; *word; word++)
		write_all(fd, *word, strlen(*word) + 1);
}

/* Returns the command's exit status. */
static int run_remote(const char *host, const char *port, char **words)
{
	static struct frame frame;
	static char buffer[MAX_FRAME];
	int fd = connect_to(host, port);
	int input = 0;

	if (fd < 0)
		err(255, "cannot reach %s", host);
	signal(SIGPIPE, SIG_IGN);
	send_words(fd, words);
	for (;;) {
		struct pollfd polls[] = { { .fd = fd, .events = POLLIN }, { .fd = input, .events = POLLIN } };

		if (poll(polls, 2, -1) < 0)
			continue;
		if (polls[1].revents) {
			ssize_t got = read(0, buffer, sizeof(buffer));

			send_frame(fd, FRAME_STDIN, buffer, got > 0 ? (uint32_t)got : 0);
			if (got <= 0)
				input = -1;
		}
		if (!polls[0].revents)
			continue;
		if (receive_frame(fd, &frame))
			errx(255, "%s closed the connection", host);
		if (frame.type == FRAME_STATUS) {
			uint32_t status;

			memcpy(&status, frame.data, sizeof(status));
			return (int)ntohl(status);
		}
		/* like any command whose output nobody reads any more */
		if (write_all(frame.type == FRAME_STDOUT ? 1 : 2, frame.data, frame.length))
			return 128 + SIGPIPE;
	}
}

/* Copies both ways until both ends are closed. */
static void forward_one(int near, char **target)
{
	static char buffer[MAX_FRAME];
	int far = connect_to(target[0], target[1]);
	int fds[2] = { near, far };
	int open[2] = { 1, 1 };

	signal(SIGPIPE, SIG_IGN);
	while (far >= 0 && (open[0] || open[1])) {
		struct pollfd polls[2];

		for (int i = 0; i < 2; i++)
			polls[i] = (struct pollfd){ .fd = open[i] ? fds[i] : -1, .events = POLLIN };
		if (poll(polls, 2, -1) < 0)
			continue;
		for (int i = 0; i < 2; i++) {
			ssize_t got;

			if (!polls[i].revents)
				continue;
			got = read(fds[i], buffer, sizeof(buffer));
			if (got < 0 || (got > 0 && write_all(fds[!i], buffer, (size_t)got)))
				return;
			if (got == 0) {
				open[i] = 0;
				shutdown(fds[!i], SHUT_WR);
			}
		}
	}
}

static void enter_netns(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET))
		err(1, "cannot enter %s", path);
	close(fd);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (!strcmp(mode, "serve") && argc == 3)
		accept_each(listen_on("0.0.0.0", argv[2]), serve_one, NULL);
	if (!strcmp(mode, "run") && argc > 4)
		return run_remote(argv[2], argv[3], argv + 4);
	if (!strcmp(mode, "forward") && argc == 6) {
		/* a socket stays in the namespace where it was made */
		int listener = listen_on("127.0.0.1", argv[3]);

		enter_netns(argv[2]);
		accept_each(listener, forward_one, argv + 4);
	}
	errx(2, "usage: channel serve PORT | run HOST PORT COMMAND [ARG...] | forward NETNS PORT HOST PORT");
}
