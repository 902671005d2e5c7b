// SPDX-License-Identifier: Apache-2.0
/*
 * wget [-q] [-O -] [-T SECONDS] http://ADDRESS[:PORT][/PATH]: prints what the server sends, as busybox's wget does in
 * upstream's image, for numeric addresses. The suite starts it 150 times for each Service that it looks at: one
 * small static program costs an emulated machine a tenth of a script, or of a wget with libraries. (The wget of
 * Debian 12's busybox crashes with -T.)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const char *url;

static void die(const char *what)
{
	fprintf(stderr, "wget: %s: %s\n", url, what);
	exit(1);
}

/* Port 80 if the URL names none. */
static struct sockaddr_storage parse(char *host, socklen_t *length)
{
	struct sockaddr_storage found = {0};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&found;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&found;
	char *end = host[0] == '[' ? strchr(host, ']') : NULL;
	char *colon = strchr(end ? end : host, ':');
	long port = colon ? strtol(colon + 1, NULL, 10) : 80;

	if (colon)
		*colon = 0;
	if (end) {
		*end = 0;
		host++;
	}
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		*length = sizeof(*v4);
	} else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		*length = sizeof(*v6);
	} else {
		die("not a numeric address");
	}
	return found;
}

/* Copies the body of an answer with status 200 to the standard output. */
static void copy_answer(int server)
{
	static char answer[1 << 20];
	size_t size = 0;
	ssize_t got;
	char *body;

	while (size < sizeof(answer) - 1 && (got = read(server, answer + size, sizeof(answer) - 1 - size)) > 0)
		size += got;
	if (got < 0)
		die(strerror(errno == EAGAIN ? ETIMEDOUT : errno));
	body = strstr(answer, "\r\n\r\n");
	if (!body || strncmp(answer, "HTTP/1.", 7) || strncmp(answer + 8, " 200", 4))
		die("no answer with status 200");
	body += 4;
	if (write(STDOUT_FILENO, body, size - (body - answer)) < 0)
		die(strerror(errno));
}

int main(int argc, char **argv)
{
	struct timeval limit = {.tv_sec = 900};
	struct sockaddr_storage address;
	char host[256], request[1024];
	const char *path;
	socklen_t length;
	int option, server;

	while ((option = getopt(argc, argv, "qO:T:")) != -1) {
		if (option == '?' || (option == 'O' && strcmp(optarg, "-")))
			return 2;
		if (option == 'T')
			limit.tv_sec = strtol(optarg, NULL, 10);
	}
	url = optind < argc ? argv[optind] : "";
	if (strncmp(url, "http://", 7))
		die("http://ADDRESS is wanted");
	path = strchr(url + 7, '/');
	snprintf(host, sizeof(host), "%.*s", path ? (int)(path - url - 7) : 255, url + 7);
	snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", path ? path : "/", host);
	address = parse(host, &length);
	server = socket(address.ss_family, SOCK_STREAM, 0);
	if (server < 0)
		die(strerror(errno));
	/* connect(), too, ends after the time for sending. */
	setsockopt(server, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(server, (struct sockaddr *)&address, length) ||
	    write(server, request, strlen(request)) < 0)
		die(strerror(errno == EINPROGRESS ? ETIMEDOUT : errno));
	copy_answer(server);
	return 0;
}
