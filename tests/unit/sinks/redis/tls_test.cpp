// rediss:// against a real redis-server with certificates of an authority made for this test.
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>

#include "daemon/sinks/redis/blocking_client.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

using ::testing::HasSubstr;

class TlsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    EVICTD_NEED_REDIS();
    if (std::system("openssl version > /dev/null 2>&1") != 0) {
      if (servers_are_required()) FAIL() << "the program openssl is not installed";
      GTEST_SKIP() << "the program openssl is not installed";
    }
    std::string name = (std::filesystem::temp_directory_path() / "evictd-tls-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    files_ = name;
    run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "
        "/CN=test-ca "
        "-keyout ca.key -out ca.crt");
    make_certificate("server", "subjectAltName=DNS:localhost,IP:127.0.0.1");
    tls_port_ = free_port();
    server_ = std::make_unique<RedisServer>(std::vector<std::string>{
        "--tls-port", std::to_string(tls_port_), "--tls-cert-file", files_ + "/server.crt",
        "--tls-key-file", files_ + "/server.key", "--tls-ca-cert-file", files_ + "/ca.crt",
        "--tls-auth-clients", "optional"});
    options_ = options_for(*server_);
    options_.url = "rediss://localhost:" + std::to_string(tls_port_);
    options_.tls_ca_file = files_ + "/ca.crt";
  }
  void TearDown() override {
    std::error_code ignored;
    if (!files_.empty()) std::filesystem::remove_all(files_, ignored);
  }

  void run(const std::string& command) {
    ASSERT_EQ(std::system(("cd " + files_ + " && " + command + " > log 2>&1").c_str()), 0)
        << command;
  }
  void make_certificate(const std::string& name, const std::string& extension) {
    run("printf '" + extension + "' > " + name +
        ".ext && openssl req -newkey ec -pkeyopt "
        "ec_paramgen_curve:prime256v1 -nodes -subj /CN=" +
        name + " -keyout " + name + ".key -out " + name + ".csr && openssl x509 -req -in " + name +
        ".csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile " + name + ".ext -out " +
        name + ".crt");
  }

  std::string first_error() {
    DrivenSink driven(options_);
    EXPECT_TRUE(
        driven.until([&] { return driven.journal().disconnects > 0 || driven.journal().failed; }));
    EXPECT_EQ(driven.journal().connects, 0);
    return driven.journal().last_error.to_string();
  }

  std::string files_;
  int tls_port_ = 0;
  std::unique_ptr<RedisServer> server_;
  RedisOptions options_;
};

TEST_F(TlsTest, WorksByNameAndByAddress) {
  for (const char* host : {"localhost", "127.0.0.1"}) {
    options_.url = std::string("rediss://") + host + ":" + std::to_string(tls_port_);
    DrivenSink driven(options_);
    ASSERT_TRUE(driven.until_connected()) << driven.journal().last_error.text;
    OrderBuilder builder(Act::kInvalidate);
    for (int i = 0; i < 20'000; ++i) builder.key(host + std::to_string(i), {10});
    expect_counts(driven.run(builder), 0, 20'000, 0, 0);
  }
}

TEST_F(TlsTest, ClientCertificate) {
  server_->client().command({"CONFIG", "SET", "tls-auth-clients", "yes"});
  make_certificate("client", "extendedKeyUsage=clientAuth");
  options_.tls_cert_file = files_ + "/client.crt";
  options_.tls_key_file = files_ + "/client.key";
  DrivenSink driven(options_);
  EXPECT_TRUE(driven.until_connected()) << driven.journal().last_error.text;
}

// With TLS 1.3 the server looks at it when the handshake is over for whoever connects.
TEST_F(TlsTest, ACertificateThatTheServerDoesNotTakeIsNamedAsTheCause) {
  server_->client().command({"CONFIG", "SET", "tls-auth-clients", "yes"});
  run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=stranger -keyout other.key -out other.crt");
  for (const char* versions : {"TLSv1.3", "TLSv1.2"}) {
    server_->client().command({"CONFIG", "SET", "tls-protocols", versions});
    for (const char* sent : {"", "/other"}) {
      options_.tls_cert_file = *sent == 0 ? "" : files_ + sent + ".crt";
      options_.tls_key_file = *sent == 0 ? "" : files_ + sent + ".key";
      DrivenSink driven(options_);
      ASSERT_TRUE(driven.until([&] { return driven.journal().disconnects > 0; }));
      const std::string error = driven.journal().last_error.to_string();
      EXPECT_THAT(error, HasSubstr("no TLS with redis at 'localhost:")) << versions << sent;
      EXPECT_THAT(error, HasSubstr(" alert ")) << versions << sent;
      EXPECT_THAT(error, HasSubstr("hint: the server does not take evictd's certificate: 'redis: tls: cert:'")) << versions << sent;
      const auto client = BlockingClient::open(options_);  // whoever asks once, as `check` does
      ASSERT_FALSE(client);
      EXPECT_THAT(client.error().to_string(), HasSubstr("the server does not take evictd's certificate")) << versions << sent;
    }
  }
}

TEST_F(TlsTest, UnknownAuthorityIsNotTrusted) {
  options_.tls_ca_file.clear();
  EXPECT_EQ(first_error(), "cannot trust redis at 'localhost:" + std::to_string(tls_port_) +
                               "': self-signed certificate in certificate chain\n"
                               "hint: name the authority's certificate in 'redis: tls: ca:'");
}

TEST_F(TlsTest, CertificateOfAnotherHostIsNotTrusted) {
  options_.url = "rediss://localhost.localdomain:" + std::to_string(tls_port_);
  make_certificate("server", "subjectAltName=DNS:elsewhere");
  server_->kill();
  server_->start_again();
  options_.url = "rediss://localhost:" + std::to_string(tls_port_);
  const std::string error = first_error();
  EXPECT_THAT(error, HasSubstr("cannot trust redis at 'localhost:" + std::to_string(tls_port_) + "': hostname mismatch"));
  EXPECT_THAT(error, HasSubstr("hint: reach it by a name that its certificate has")) << "its authority is known";
}

TEST_F(TlsTest, PlainPortIsNamedAsTheLikelyCause) {
  options_.url = "rediss://localhost:" + std::to_string(server_->port());
  options_.command_timeout = options_.connect_timeout = std::chrono::milliseconds(2000);
  const std::string error = first_error();
  EXPECT_THAT(error, HasSubstr("no TLS"));
  EXPECT_THAT(error, HasSubstr("redis at 'localhost:" + std::to_string(server_->port()) + "'"));
  EXPECT_THAT(error, HasSubstr("hint: is this port a TLS port? 'rediss://' is for those only"));
}

TEST_F(TlsTest, APlainPortIsNamedToWhoeverAsksOnceToo) {
  options_.url = "rediss://localhost:" + std::to_string(server_->port());
  options_.connect_timeout = std::chrono::milliseconds(500);
  const auto client = BlockingClient::open(options_);
  ASSERT_FALSE(client);
  EXPECT_THAT(client.error().to_string(), HasSubstr("no TLS handshake with redis at 'localhost:"));
  EXPECT_THAT(client.error().to_string(), HasSubstr("is this port a TLS port? 'rediss://' is for those only"));
}

TEST_F(TlsTest, TlsPortIsNamedAsTheLikelyCause) {
  options_.url = "redis://localhost:" + std::to_string(tls_port_);
  EXPECT_THAT(first_error(), HasSubstr("'rediss://'"));
  const auto client = BlockingClient::open(options_);  // whoever asks once, as `check` does
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().hint, "it said nothing at all; if this port speaks TLS, write 'rediss://' in 'redis: url:'");
}

TEST_F(TlsTest, AFileThatIsNotThereYetIsNamedAndWaitedFor) {
  options_.tls_ca_file = files_ + "/later.crt";
  EXPECT_EQ(first_error(), "cannot read the TLS file '" + files_ + "/later.crt': No such file or directory\n"
                           "hint: look at 'redis: tls:'; the file must be there, in PEM, and readable for the user that evictd runs as");
  DrivenSink driven(options_);
  ASSERT_TRUE(driven.until([&] { return driven.journal().disconnects > 0 || driven.journal().failed; }));
  EXPECT_FALSE(driven.journal().failed);
  run("printf nothing > later.crt");
  EXPECT_THAT(first_error(), HasSubstr("cannot read the TLS file '" + files_ + "/later.crt': no certificate or crl found"));
  run("cp ca.crt later.crt");
  EXPECT_TRUE(driven.until([&] { return driven.journal().connects > 0; }));
}

}  // namespace
}  // namespace evictd::testing
