#include "daemon/app/line_writer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace evictd {
namespace {

// What a pipe that poll calls writable takes at once, whole.
constexpr std::size_t kPipeBytes = 4096;

bool would_wait(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

LineWriter::LineWriter(int descriptor) : descriptor_(descriptor) {
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || S_ISREG(status.st_mode)) return;
  if (S_ISSOCK(status.st_mode)) {
    kind_ = Kind::kSocket;
    return;
  }
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  own_ = Descriptor(open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  kind_ = own_.is_open() ? Kind::kNonBlocking : Kind::kPolled;
}

// As write(2) on a descriptor that does not block.
long LineWriter::put(std::string_view bytes) {
  switch (kind_) {
    case Kind::kFile:
      return ::write(descriptor_, bytes.data(), bytes.size());
    case Kind::kSocket:
      return ::send(descriptor_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    case Kind::kNonBlocking:
      return ::write(own_.get(), bytes.data(), bytes.size());
    case Kind::kPolled:
      pollfd ready{descriptor_, POLLOUT, 0};
      if (::poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0) {
        return ::write(descriptor_, bytes.data(), std::min(bytes.size(), kPipeBytes));
      }
      errno = EAGAIN;
      return -1;
  }
  return -1;
}

void LineWriter::flush() {
  std::size_t done = 0;
  while (done < backlog_.size()) {
    const long taken = put(std::string_view(backlog_).substr(done));
    if (taken > 0) {
      done += static_cast<std::size_t>(taken);
      broken_ = false;
    } else if (taken < 0 && would_wait(errno)) {
      break;
    } else {
      // Nobody will ever read it, or the disk is full.
      dropped_ += static_cast<std::uint64_t>(std::count(backlog_.begin() + static_cast<long>(done), backlog_.end(), '\n'));
      done = backlog_.size();
      broken_ = true;
    }
  }
  backlog_.erase(0, done);
}

void LineWriter::write(std::string_view line) {
  if (backlog_.size() + line.size() > kBacklogMax) {
    flush();
    if (backlog_.size() + line.size() > kBacklogMax) {
      ++dropped_;
      return;
    }
  }
  backlog_ += line;
  flush();
}

std::uint64_t LineWriter::take_dropped() {
  if (has_backlog() || broken_) return 0;
  const std::uint64_t since = dropped_ - told_;
  told_ = dropped_;
  return since;
}

}  // namespace evictd
