// The dead-letter file: records that could not be decoded, raw, for a person to look at.
//
// Each is framed by one line of text, so that `less` shows it and a script can read it:
//
//   evictd-dead-letter topic=<topic> partition=<n> offset=<n> key_bytes=<n|-> value_bytes=<n|->
//   error=<text>\n <key bytes><value bytes>\n
//
// The file never grows beyond half of its limit: then it becomes <file>.1 (replacing an older one)
// and a new one begins. A record larger than that is cut. Readable by the owner alone, for it holds rows of the
// database. Owned by the loop thread; a failure is counted, never fatal.
#pragma once

#include <cstdint>
#include <string>

#include "daemon/sources/kafka/envelope.h"

namespace evictd {

class DeadLetters {
 public:
  // An empty path: nothing is kept.
  DeadLetters(std::string path, std::uint64_t bytes_max)
      : path_(std::move(path)), half_(bytes_max / 2) {}

  void keep(const KafkaRecord& record, const Error& error);
  // Records that were to be kept and could not be written.
  std::uint64_t lost() const { return lost_; }

 private:
  std::string path_;
  std::uint64_t half_;
  std::uint64_t lost_ = 0;
};

}  // namespace evictd
